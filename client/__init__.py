"""Find people through a running pose server: library, COCO evaluation, pictures, `pose-client`."""
