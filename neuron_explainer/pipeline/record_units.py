"""Which units of a folder's records are explained, and whether a method can do with the records."""

from __future__ import annotations

from pathlib import Path

from neuron_explainer.errors import CannotExplain, UsageError
from neuron_explainer.pipeline.events import Listener, Noted
from neuron_explainer.pipeline.fetch import PublishedPlace, fetch_units
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import explainer_name
from neuron_explainer.pipeline.order import LOOKUP
from neuron_explainer.pipeline.records import PUBLISHED, RECORDS, read_elsewhere
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.unit_choice import choose_neurons
from neuron_explainer.prompts.explain import Need
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.published.locations import Kind, find_dataset
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.record_source import RecordSource


def check_token_means(spec: RunSpec, records: RecordSource) -> None:
    """UsageError when the explainer reads token means and the records have none."""
    asks_nobody = explainer_name(spec) is None
    reads_them = asks_nobody or Need.TOKENS in PROMPTS[spec.explainer_prompt].needs
    reason = why_no_token_means(records)
    if reads_them and reason is not None:
        prompt_flag = f"--explainer-prompt {spec.explainer_prompt}"
        what = f"--explainer {spec.explainer}" if asks_nobody else prompt_flag
        others = [name for name, prompt in PROMPTS.items() if Need.TOKENS not in prompt.needs]
        raise UsageError(
            f"{reason}, which {what} reads; name a language model with one of the prompts "
            f"{', '.join(sorted(others))}"
        )


def why_no_token_means(records: RecordSource) -> str | None:
    """None: there are some, and so a token lookup table."""
    try:
        records.read_token_lookup(next(records.neuron_ids()))
    except CannotExplain as error:
        return error.reason
    return None


def choose_units(
    spec: RunSpec, folder: RunFolder, records: RecordSource, listen: Listener
) -> list[NeuronId]:
    """Those that the spec names; of published ones what is missing is fetched first.

    UnitNotFound for one that is not there; what cannot be fetched now is left out and said.
    """
    if spec.order == LOOKUP and why_no_token_means(records) is not None:
        raise UsageError(f"--order lookup: {why_no_token_means(records)}; use another order")
    chosen = choose_neurons(spec.neurons_wanted, records.neuron_ids(), spec.seed)
    choices = read_elsewhere(folder)
    if choices is None or choices[RECORDS] != PUBLISHED:
        return chosen
    place = PublishedPlace(
        find_dataset(choices["dataset"]), choices["source"], Path(choices["archive"])
    )
    fetched = fetch_units(place, chosen, (Kind.ACTIVATIONS,), listen)
    for reason, n in fetched.left_out.items():
        listen(Noted("left out", f"{n:,} neurons: {reason}"))
    return list(fetched.neuron_ids)
