"""COCO numbers of any results; needs no server."""
