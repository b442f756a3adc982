"""ShardedIndex: the bits of one index, for any number of shards and after a worker was killed in mid-search."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from distributed import Client, LocalCluster

from pyint8dot.models import Embedder, MiniLM
from pyint8dot.search import Index
from pyint8dot.search.distributed import ShardedIndex

# Workers that are killed close sockets and files late.
pytestmark = [
    pytest.mark.static,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextlib.contextmanager
def two_processes():
    """A cluster of two processes of one thread, and a client of it."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def client():
    with two_processes() as made:
        yield made


def vectors(rng, n, dim=16):
    """Of few values, so that equal scores come from different shards."""
    return rng.integers(-2, 3, (n, dim)).astype(np.float32)


def saved(folder, x, ids, shards, **options):
    """Indices of the vectors, which lie in turn in one after the other."""
    paths = [folder / f"shard-{i}" for i in range(shards)]
    for i, path in enumerate(paths):
        Index(x[i::shards], ids=ids[i::shards], **options).save(path)
    return paths


def same(found, wanted):
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(found[0], wanted[0])


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("keep", [None, "int8"])
def test_as_one_index(client, rng, tmp_path, shards, keep):
    x, q, ids = vectors(rng, 900), vectors(rng, 7), rng.permutation(2000)[:900]
    one = Index(x, ids=ids, keep=keep)
    sharded = ShardedIndex(client, saved(tmp_path, x, ids, shards, keep=keep))
    assert (len(sharded), sharded.dim, sharded.metric, sharded.keep) == (900, 16, "cosine", keep)
    rescore = keep is not None
    for k in (1, 10, 300, 1000):
        same(sharded.search(q, k, rescore=rescore), one.search(q, k, rescore=rescore))
    same(sharded.search(q[0], 5, filter=ids[:40]), one.search(q[0], 5, filter=ids[:40]))
    same(sharded.search(q[:0], 5, rescore=rescore), one.search(q[:0], 5, rescore=rescore))


def test_what_was_saved_anew_is_seen(client, rng, tmp_path):
    x, ids = vectors(rng, 50), np.arange(50)
    [path] = saved(tmp_path, x, ids, 1)
    same(ShardedIndex(client, [path]).search(x[:3], 60), Index(x).search(x[:3], 60))
    Index(x[:20]).save(path)
    same(ShardedIndex(client, [path]).search(x[:3], 30), Index(x[:20]).search(x[:3], 30))


def test_what_is_wrong_is_told(client, rng, tmp_path):
    Index(vectors(rng, 5)).save(tmp_path / "a")
    Index(vectors(rng, 5), metric="ip").save(tmp_path / "b")
    with pytest.raises(ValueError, match="one dimension, metric and keep"):
        ShardedIndex(client, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="at least one index"):
        ShardedIndex(client, [])
    with pytest.raises(FileNotFoundError):
        ShardedIndex(client, [tmp_path / "nowhere"])
    sharded = ShardedIndex(client, [tmp_path / "a"])
    with pytest.raises(ValueError, match="rescore needs"):
        sharded.search(vectors(rng, 1), rescore=True)
    with pytest.raises(ValueError, match="k must be at least 1"):
        sharded.search(vectors(rng, 1), 0)
    with pytest.raises(ValueError, match="queries must have 16 dimensions"):
        sharded.search(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="queries must have 16 dimensions"):
        sharded.search(np.zeros((0, 3), np.float32))
    with pytest.raises(TypeError, match="queries must not be a masked array"):
        sharded.search(np.ma.masked_array(np.zeros((1, 16), np.float32)))


def test_a_corpus_is_embedded_by_the_workers(client):
    """What embeds is sent with every batch, and is no more than a few words."""
    texts = ["Cats purr.", "Rates rose again.", "Rain fell all night.", "The tram was late.", ""]
    batches = [{"text": texts[i : i + 2], "page": [i, i + 1][: len(texts) - i]} for i in range(0, len(texts), 2)]
    embed = Embedder(output="vector")
    assert len(pickle.dumps(embed)) < 500
    found = client.gather(client.map(embed, batches))
    assert [each["page"] for each in found] == [batch["page"] for batch in batches]
    np.testing.assert_array_equal(np.concatenate([each["vector"] for each in found]), MiniLM.load().encode(texts))


def test_a_batch_that_cannot_be_embedded():
    embed = Embedder("text")
    with pytest.raises(KeyError, match="no column 'text'; it has 'words'"):
        embed({"words": ["one"]})
    with pytest.raises(TypeError):
        embed({"text": [1]})
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        Embedder(batch_size=0)


class Waiting:
    """A filter that lets everything through, but waits until it is let go, and tells by a file who is waiting."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, ids):
        (self.folder / f"{os.getpid()}").touch()
        until((self.folder / "go").exists)
        return np.ones(ids.shape, bool)


def until(true):
    """Wait for something, but not for ever."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_is_killed_in_mid_search(rng, tmp_path):
    """Two shards are being searched by two processes when one of them is killed: its shard is searched by another."""
    x, q, ids = vectors(rng, 400), vectors(rng, 3), np.arange(400)
    signs = tmp_path / "signs"
    signs.mkdir()
    with two_processes() as client, ThreadPoolExecutor(1) as pool:
        sharded = ShardedIndex(client, saved(tmp_path, x, ids, 2))
        found = pool.submit(sharded.search, q, 10, filter=Waiting(signs))
        until(lambda: len(list(signs.iterdir())) == 2)
        os.kill(int(next(signs.iterdir()).name), signal.SIGKILL)
        # The other one waits until the dead one's task has begun anew.
        until(lambda: len(list(signs.iterdir())) == 3)
        (signs / "go").touch()
        same(found.result(120), Index(x, ids=ids).search(q, 10))
