"""Run a client, unchanged, on onnxruntime and then on this package: ``python -m clients.run CLIENT [FOLDER]``.

It prints as JSON, for each, what the session it made is of and the client's results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

FILES = {
    "python": b"#!/usr/bin/env python3\nimport os\n\n\ndef main():\n    print(os.getcwd())\n" * 4,
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(300),
    "html": b"<!DOCTYPE html><html><body><p>text</p></body></html>\n" * 8,
    "json": b'{"name": [1, 2, 3], "other": null}\n' * 10,
}
TEXTS = ["A sentence about cats.", "Something else entirely, about the weather of tomorrow."]


def magika(_: Path) -> tuple[list, object]:
    """Tell the types of files; the package has its model inside."""
    import magika

    found = magika.Magika()
    results = [found.identify_bytes(content) for content in FILES.values()]
    return [[str(r.output.label), float(r.score)] for r in results], found._onnx_session


def chromadb(folder: Path) -> tuple[list, object]:
    """Embed texts by chromadb's default function, the model lying where it would have been downloaded to."""
    from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2

    class Local(ONNXMiniLM_L6_V2):
        DOWNLOAD_PATH = folder

    function = Local()
    return [vector.tolist() for vector in function(TEXTS)], function.model


def fastembed(folder: Path) -> tuple[list, object]:
    """Embed texts by fastembed, the model given as a folder."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/minilm", pooling=PoolingType.MEAN, normalization=True, sources=ModelSource(hf="local/minilm"), dim=384, model_file="model.onnx"
    )  # fmt: skip
    found = TextEmbedding("local/minilm", specific_model_path=str(folder / "onnx"), threads=1)
    return [vector.tolist() for vector in found.embed(TEXTS)], found.model.model


def sentence_transformers(folder: Path) -> tuple[list, object]:
    """Embed texts by sentence-transformers' ONNX backend, the model and its configuration lying in a folder."""
    from sentence_transformers import SentenceTransformer

    files = {"file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider"}
    found = SentenceTransformer(str(folder), backend="onnx", device="cpu", model_kwargs=files)
    return found.encode(TEXTS, normalize_embeddings=True).tolist(), found[0].auto_model.session


def optimum(folder: Path) -> tuple[list, object]:
    """Run optimum's model of hidden states, and make embeddings of its mean as its users do."""
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    found = ORTModelForFeatureExtraction.from_pretrained(folder, file_name="model.onnx", subfolder="onnx")
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np")
    hidden, mask = found(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
    vectors = (hidden * mask).sum(axis=1)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist(), found.session


CLIENTS = {
    "magika": magika, "chromadb": chromadb, "fastembed": fastembed, "sentence_transformers": sentence_transformers,
    "optimum": optimum,
}  # fmt: skip


def main() -> None:
    """Run the client of the command line."""
    client, folder = (*sys.argv[1:], ".")[:2]
    told = []
    for runtime in ("onnxruntime", "pyint8dot"):
        if runtime == "pyint8dot":
            from pyint8dot.onnx import as_onnxruntime

            as_onnxruntime()
            # As in a new process: a module keeps the runtime it has imported.
            for name in [name for name in sys.modules if name.partition(".")[0] in (client, "optimum")]:
                del sys.modules[name]
        results, session = CLIENTS[client](Path(folder))
        told.append([type(session).__module__, results])
    print(json.dumps(told))


if __name__ == "__main__":
    main()
