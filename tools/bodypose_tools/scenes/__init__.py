"""Drawn people: example pictures and COCO-format sets without anybody's photo."""
