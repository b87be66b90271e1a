"""TensorRT engines: built, inspected, and described by their record."""
