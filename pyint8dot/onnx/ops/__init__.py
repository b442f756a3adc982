"""What each ONNX operator runs, one file a family. Private to the package."""
