"""What a fleet is deployed with, written from the repository's record: images, chart, gateway."""
