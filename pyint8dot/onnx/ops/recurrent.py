"""LSTM, GRU and RNN: the products with the inputs are one for all steps, those with the state one a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pyint8dot.engine import library
from pyint8dot.engine.lstm import GATES
from pyint8dot.lstm import Weights, lstm, pack_weights
from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.ops.recurrent_functions import Activation, functions
from pyint8dot.onnx.registry import FLOATS, Function, Site, operator

# (rows, k) to (rows, n).
Product: TypeAlias = "Callable[[np.ndarray], np.ndarray]"

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _clipped(function: Activation, limit: float) -> Activation:
    """Return the function of numbers that are brought between two bounds first."""
    return lambda x: function(np.clip(x, -limit, limit))


class Cell:
    """What the three have in common: directions, activations and the walk along the steps."""

    def __init__(self, site: Site, kind: str) -> None:
        self.kind, self.gates = kind, _GATES[kind]
        self.hidden = int(site.attr("hidden_size", 0))
        self.direction: str = site.attr("direction", "forward")
        self.count = 2 if self.direction == "bidirectional" else 1
        names: list[str] = site.attr("activations") or _DEFAULTS[kind] * self.count
        self.each = len(_DEFAULTS[kind])
        if len(names) != self.each * self.count:
            raise ValueError(f"{site.node}: activations must be {self.each * self.count} names, got {names}")
        try:
            self.functions = functions(names, site.attr("activation_alpha") or (), site.attr("activation_beta") or ())
        except ValueError as error:
            raise ValueError(f"{site.node}: {error}") from error
        clip = float(site.attr("clip", 0))
        if clip:
            # What comes of the cell itself is not clipped.
            self.functions = [
                f if i % 3 == 2 and kind == "LSTM" else _clipped(f, clip) for i, f in enumerate(self.functions)
            ]
        self.coupled = bool(site.attr("input_forget", 0)) and kind == "LSTM"
        self.reset_after = bool(site.attr("linear_before_reset", 0))
        self.layout = int(site.attr("layout", 0))
        # What nearly every LSTM is.
        usual = kind == "LSTM" and names == _DEFAULTS[kind] * self.count
        self.plain = usual and not clip and not self.coupled and not site.has(7)
        self.outputs = len(site.node.outputs)
        self.limit, self.what = site.max_bytes, site.what

    def run(
        self, x: np.ndarray, products: list[tuple[Product, Product]], bias: np.ndarray | None,
        lengths: np.ndarray | None, state: np.ndarray | None, cell: np.ndarray | None = None, peep: np.ndarray | None = None,
        of_both: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        """Walk along x, shape (steps, batch, inputs); `products` are those with the inputs and with the state.

        `of_both` is what a plain LSTM's states are multiplied by, (directions, hidden, 4 * hidden), where that is an array.
        """
        if self.layout:
            # The batch comes first.
            x, state, cell = self.steps_first(x, state, cell)
        steps, batch, _ = x.shape
        hidden = self.hidden
        self.check(steps, batch, hidden)
        y = np.zeros((steps, self.count, batch, hidden), x.dtype)
        last_h = np.zeros((self.count, batch, hidden), x.dtype) if state is None else np.array(state)
        last_c = np.zeros((self.count, batch, hidden), x.dtype) if cell is None else np.array(cell)
        if lengths is not None:
            # What lies behind the ends of all rows is not looked at: it would change the range of inputs that are quantised.
            steps = min(steps, int(lengths.max(initial=0)))
            x = x[:steps]
        full = lengths is None or bool((lengths == steps).all())
        if self.plain:
            self._walk_both(x, products, bias, of_both, None if full else lengths, y[:steps], last_h, last_c)
            products = []
        for d, (of_input, of_state) in enumerate(products):
            both = None if bias is None else np.split(bias[d], 2)
            inputs = np.asarray(of_input(x.reshape(steps * batch, x.shape[2])))
            if both is not None:
                # The bias of a state that is reset afterwards stays with it.
                inputs += both[0] if self._keeps_bias() else both[0] + both[1]
            inputs = inputs.reshape(steps, batch, self.gates * hidden)
            backward = self.direction == "reverse" or d == 1
            h, c = last_h[d], last_c[d]
            functions = self.functions[d * self.each : (d + 1) * self.each]
            state_bias = both[1] if both is not None and self._keeps_bias() else None
            weights = None if peep is None else np.split(peep[d], 3)
            for t in reversed(range(steps)) if backward else range(steps):
                next_h, next_c = self._step(inputs[t], h, c, of_state, functions, state_bias, weights)
                if not full:
                    assert lengths is not None  # noqa: S101 - full otherwise
                    inside = (t < lengths)[:, None]
                    y[t, d] = np.where(inside, next_h, 0)
                    next_h, next_c = np.where(inside, next_h, h), np.where(inside, next_c, c)
                else:
                    y[t, d] = next_h
                h, c = next_h, next_c
            last_h[d], last_c[d] = h, c
        return self.results(y, last_h, last_c)

    def steps_first(self, *arrays: np.ndarray | None) -> Any:
        """Return inputs and states that have the batch first with it where `layout` has it otherwise."""
        return [each if each is None else each.swapaxes(0, 1) for each in arrays]

    def check(self, steps: int, batch: int, hidden: int) -> None:
        """Refuse what would take too much memory."""
        if 4 * steps * self.count * batch * hidden * (self.gates + 1) > self.limit:
            check_shape((steps, self.count, batch, hidden * (self.gates + 1)), 4, self.limit, self.what)

    def results(self, y: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
        """Return what the node has of states and cells that lie step by step."""
        if self.layout:
            y, h, c = y.transpose(2, 0, 1, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)
        return (y, h, c)[: self.outputs] if self.outputs > 1 else y

    def gate_factors(self, dtype: np.dtype[Any]) -> np.ndarray:
        """What weights and biases are multiplied by, a number for each of their columns.

        sigmoid(x) is tanh(x / 2) / 2 + 1 / 2: with three of the four gates halved beforehand, which is exact, one tanh serves them all.
        """
        return np.repeat(np.array([0.5, 0.5, 0.5, 1] if self.plain else [1] * self.gates, dtype), self.hidden)

    def _walk_both(
        self, x: np.ndarray, products: list[tuple[Product, Product]], bias: np.ndarray | None,
        of_both: np.ndarray | None, lengths: np.ndarray | None, y: np.ndarray, h: np.ndarray, c: np.ndarray,
    ) -> None:  # fmt: skip
        """Fill y and the last states of a plain LSTM: the steps of both directions are walked together, in few calls."""
        steps, count, batch, n = y.shape
        turns = [-1 if self.direction == "reverse" or d == 1 else 1 for d in range(count)]
        # Each gate of all directions lies in one piece, in the order of the walk.
        inputs = np.empty((steps, 4, count, batch, n), x.dtype)
        rows = x.reshape(steps * batch, x.shape[2])
        shift = None if bias is None else bias.reshape(count, 2, -1).sum(axis=1) * self.gate_factors(x.dtype)
        for d, (of_input, _) in enumerate(products):
            sums = of_input(rows)
            if shift is not None:
                sums += shift[d]
            inputs[:, :, d] = sums.reshape(steps, batch, 4, n).swapaxes(1, 2)[:: turns[d]]
        outside = None
        if lengths is not None:
            after = np.arange(steps)[:, None, None] >= lengths[:, None]
            outside = np.stack([after[::turn] for turn in turns], axis=1)
        walked = np.empty_like(y)
        half = np.array(0.5, x.dtype)
        of_states, gates = np.empty((count, batch, 4 * n), x.dtype), np.empty(inputs.shape[1:], x.dtype)
        by_gates = of_states.reshape(count, batch, 4, n).transpose(2, 0, 1, 3)
        (i, o, f, g), opened, squashed, state = gates, gates[:3], np.empty_like(c), h
        with np.errstate(all="ignore"):
            for t, result in enumerate(walked):
                if of_both is not None:
                    np.matmul(state, of_both, of_states)
                else:
                    for d, (_, of_state) in enumerate(products):
                        of_states[d] = of_state(state[d])
                np.add(by_gates, inputs[t], gates)
                np.tanh(gates, gates)
                np.multiply(opened, half, opened)
                np.add(opened, half, opened)
                before = c if outside is None else c.copy()
                np.multiply(f, c, c)
                np.multiply(i, g, i)
                np.add(c, i, c)
                np.tanh(c, squashed)
                np.multiply(o, squashed, result)
                if outside is None:
                    state = result
                else:
                    np.copyto(c, before, where=outside[t])
                    state = np.where(outside[t], state, result)
                    np.copyto(result, 0, where=outside[t])
        h[...] = state
        for d, turn in enumerate(turns):
            y[:, d] = walked[::turn, d]

    def _keeps_bias(self) -> bool:
        return self.kind == "GRU"

    def _step(
        self, inputs: np.ndarray, h: np.ndarray, c: np.ndarray, of_state: Product, functions: list[Any],
        state_bias: np.ndarray | None, peep: list[np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        n = self.hidden
        if self.kind == "RNN":
            return functions[0](inputs + of_state(h)), c
        if self.kind == "GRU":
            return self._gru(inputs, h, of_state, functions, state_bias), c
        gate, squash, out = functions
        sums = inputs + of_state(h)
        i, o, f, g = (sums[:, k * n : (k + 1) * n] for k in range(4))
        if peep is not None:
            i, f = i + peep[0] * c, f + peep[2] * c
        i = gate(i)
        c = (1 - i if self.coupled else gate(f)) * c + i * squash(g)
        if peep is not None:
            o = o + peep[1] * c
        return gate(o) * out(c), c

    def _gru(
        self, inputs: np.ndarray, h: np.ndarray, of_state: Product, functions: list[Any], bias: np.ndarray | None
    ) -> np.ndarray:
        n = self.hidden
        gate, squash = functions
        shift = np.zeros(3 * n, h.dtype) if bias is None else bias
        sums = of_state(h) + shift
        opened = gate(inputs[:, : 2 * n] + sums[:, : 2 * n])
        z, r = opened[:, :n], opened[:, n:]
        inner = r * sums[:, 2 * n :] if self.reset_after else of_state(r * h)[:, 2 * n :] + shift[2 * n :]
        found: np.ndarray = squash(inputs[:, 2 * n :] + inner)
        return np.asarray((1 - z) * found + z * h)


@operator("LSTM", "GRU", "RNN")
def _recurrent(site: Site) -> Function | None:
    cell = Cell(site, site.node.op)
    if site.dtype(0) not in FLOATS:
        return None
    if cell.plain and site.dtype(0) == np.float32 and library.status() is None:
        return _native(site, cell)

    def turned(matrices: np.ndarray) -> np.ndarray:
        wanted = (cell.count, cell.gates * cell.hidden)
        if matrices.shape[:2] != wanted:
            raise ValueError(f"W and R must have {wanted} rows by direction, got shape {matrices.shape}")
        return np.ascontiguousarray(matrices.swapaxes(1, 2) * cell.gate_factors(matrices.dtype))

    def by(matrix: np.ndarray) -> Product:
        return lambda rows: np.matmul(rows, matrix)

    known_w, known_r = site.const(1), site.const(2)
    known: tuple[np.ndarray, np.ndarray] | None = None
    if known_w is not None and known_r is not None and known_w.ndim == known_r.ndim == 3:
        cell.hidden = cell.hidden or known_r.shape[2]
        known = turned(known_w), turned(known_r)
        site.absorb(1)
        site.absorb(2)

    def run(
        x: np.ndarray, w: np.ndarray, r: np.ndarray, bias: np.ndarray | None = None, lengths: np.ndarray | None = None,
        state: np.ndarray | None = None, c: np.ndarray | None = None, peep: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        with np.errstate(all="ignore"):  # what is too large is infinity, as in ONNX
            if known is None:
                cell.hidden = cell.hidden or r.shape[2]
            of_input, of_state = (turned(w), turned(r)) if known is None else known
            products = [(by(of_input[d]), by(of_state[d])) for d in range(cell.count)]
            return cell.run(x, products, bias, lengths, state, c, peep, of_state)

    return run


def _native(site: Site, cell: Cell) -> Function:
    """A plain LSTM of float32, whose steps native code walks."""
    site.native()
    backward = (cell.direction == "reverse", True)[: cell.count]

    def packed(w: np.ndarray, r: np.ndarray, bias: np.ndarray | None) -> Weights:
        made = pack_weights(w, r, bias)
        if len(w) != cell.count or made.hidden != (cell.hidden or made.hidden):
            wanted = (cell.count, GATES * (cell.hidden or made.hidden))
            raise ValueError(f"W and R must have {wanted} rows by direction, got shape {w.shape}")
        return made

    w, r = site.const(1), site.const(2)
    known: Weights | None = None
    if w is not None and r is not None and site.all_constant(3):
        known = packed(w, r, site.const(3))
        for index in (1, 2, 3):
            site.absorb(index)

    def run(
        x: np.ndarray, w: np.ndarray, r: np.ndarray, bias: np.ndarray | None = None, lengths: np.ndarray | None = None,
        state: np.ndarray | None = None, c: np.ndarray | None = None, _: None = None,
    ) -> Any:  # fmt: skip
        if cell.layout:
            x, state, c = cell.steps_first(x, state, c)
        weights = packed(w, r, bias) if known is None else known
        steps, batch, _ = x.shape
        cell.check(steps, batch, weights.hidden)
        return cell.results(*lstm(x, weights, state, c, lengths, backward=backward))

    return run
