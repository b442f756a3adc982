"""The operators of the domain com.microsoft, which onnxruntime's quantisation and optimisation write. Private to the package.

Most of them say in one node what ONNX's own operators say in several: those are written out when a model is read, and
whatever knows ONNX's operators serves them too (`written`). The rest are operators of the session like any others; onnx's
inference, which does not know them, sees nodes of the same types and shapes in their places (`inference`).
"""
