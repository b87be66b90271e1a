"""`tools export`: a Keras network becomes an ONNX graph in the arithmetic asked for, or nothing."""
