"""The arguments by which a session of onnxruntime is told where to run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from pyint8dot.onnx.options import PROVIDER


def normalized_providers(
    providers: Sequence[Any] | None, options: Sequence[Any] | None
) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Check the arguments `providers` and `provider_options` of a session.

    Parameters
    ----------
    providers : sequence of str or (str, dict), or None
        In order of preference.
    options : sequence of dict, or None
        One for each provider, instead of the pairs.

    Returns
    -------
    unknown : list of str
        Names that were asked for and are not here.
    options : dict of str to dict
        What was set for the one that is.

    Raises
    ------
    ValueError
        If they are not of this form.
    """
    if providers is None:
        return [], {PROVIDER: {}}
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")  # noqa: TRY004 - onnxruntime's type
    pairs: list[tuple[str, dict[Any, Any]]] = []
    for provider in providers:
        pair = (provider, {}) if isinstance(provider, str) else provider
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], dict)):
            raise ValueError(f"'providers' values must be either strings or (string, dict) tuples, got {provider!r}.")
        pairs.append(pair)
    if options is not None:
        given: Any = options
        fits = isinstance(given, Sequence) and len(given) == len(pairs)
        if not fits or not all(isinstance(one, dict) for one in options):
            raise ValueError("'provider_options' must be one dict for each of 'providers'.")
        pairs = [(name, one) for (name, _), one in zip(pairs, options, strict=True)]
    found = {str(key): str(value) for name, one in pairs if name == PROVIDER for key, value in one.items()}
    return [name for name, _ in pairs if name != PROVIDER], {PROVIDER: found}


def provider_settings(
    providers: Sequence[Any] | None, options: Sequence[Any] | None, *, fallback: bool = False
) -> dict[str, dict[str, str]]:
    """Return what was set for the provider there is, with a warning for each that is not here.

    Parameters
    ----------
    providers, options : sequence or None
        See `normalized_providers`.
    fallback : bool
        Whether arguments that are not of their form are only warned of, as by onnxruntime's constructor: it runs the model on
        the processor then, and a single name, not in a list, is often given to it.

    Returns
    -------
    dict of str to dict
    """
    try:
        unknown, found = normalized_providers(providers, options)
    except ValueError as error:
        if not fallback:
            raise
        warnings.warn(f"{error} The model runs on '{PROVIDER}'.", stacklevel=3)
        return {PROVIDER: {}}
    for name in unknown:
        text = f"Specified provider '{name}' is not in available provider names. Available providers: '{PROVIDER}'"
        warnings.warn(text, stacklevel=3)
    return found
