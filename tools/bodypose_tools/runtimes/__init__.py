"""Running and timing any model file here: Keras, ONNX Runtime, OpenVINO, TensorRT."""
