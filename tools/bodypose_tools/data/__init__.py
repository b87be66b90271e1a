"""COCO-format sets and photos: read, checked, and drawn as a perfect network's fields."""
