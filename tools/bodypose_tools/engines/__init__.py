"""TensorRT engines: building them, inspecting their layers, reading their records."""
