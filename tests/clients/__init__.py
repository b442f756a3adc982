"""Programs that run a library of others as its users do, once on onnxruntime and once on this package."""
