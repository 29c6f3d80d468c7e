"""The columns of trials.csv and front.csv: name, kind, unit and meaning, in their order.

What a row brings beyond them follows in its own order. An empty cell means: not applicable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DTYPES = {
    "text": "string",
    "whole": "Int64",
    # A seed is a hash and may use all 64 bits.
    "seed": "UInt64",
    "number": "float64",
    "flag": "boolean",
}
"""Kinds of columns, and what pandas holds them as."""
SCHEMA_TYPES = {
    "text": "string",
    "whole": "integer",
    "seed": "integer",
    "number": "number",
    "flag": "boolean",
}
"""The same in the words of Frictionless' Table Schema (specs.frictionlessdata.io/table-schema)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    kind: str
    """A key of `DTYPES`."""
    unit: str
    """What 1 means; empty for a text, a flag, a count or a score without a unit."""
    meaning: str

    @property
    def dtype(self) -> str:
        """What pandas holds it as."""
        return DTYPES[self.kind]


CONTRACT = (
    Column("trial", "whole", "", "number of the training, in the order they were asked for"),
    Column("role", "text", "", "anchor, evidence, search or confirm"),
    Column("state", "text", "", "complete, diverged, stopped, failed or infeasible"),
    Column("id", "text", "", "of the network: 12 hex digits of its canonical form"),
    Column("seed", "seed", "", "of the training: a hash of run seed, id and repeat"),
    Column("accuracy", "number", "share", "of the validation images; in segmentation of pixels"),
    Column("val_loss", "number", "nats", "cross-entropy of the validation set, unsmoothed"),
    Column("test_accuracy", "number", "share", "of the test images; of the front alone"),
    Column("latency_ms", "number", "ms", "a batch through the merged network, median"),
    Column("macs", "whole", "multiply-adds", "of one image through the merged network"),
    Column("params", "whole", "parameters", "of the merged network"),
    *(
        Column(f"s{number}", "number", "0 to 1", f"how far it follows guideline {number}")
        for number in range(1, 5)
    ),
    Column("rank", "whole", "", "by the first objective's estimate, 1 is best"),
    Column("front_rank", "whole", "", "1 where nothing dominates it, 2 behind these, and so on"),
    Column("on_front", "flag", "", "whether nothing dominates it"),
    Column("seconds", "number", "s", "that its training process took"),
    Column("error", "text", "", "why it failed, with the innermost calls"),
    Column("architecture", "text", "", "canonical JSON, which Architecture.from_json reads"),
)
"""First columns: a contract, in this order."""

MORE = (
    Column("latency_low_ms", "number", "ms", "lower end of the latency's 95 % interval"),
    Column("latency_high_ms", "number", "ms", "its upper end"),
    Column("latency_raw_ms", "number", "ms", "as the clock showed, unscaled by the reference"),
    Column("latency_disturbed", "flag", "", "whether something else kept the machine busy"),
    Column("separable", "flag", "", "whether its latency differs from the next one's on the front"),
    Column("miou", "number", "share", "mean intersection over union of the validation images"),
    Column("accuracy_last", "number", "share", "of pixels, read from the last stage alone"),
    Column("val_loss_last", "number", "nats", "val_loss, read from the last stage alone"),
    Column("miou_last", "number", "share", "mIoU, read from the last stage alone"),
    Column("test_miou", "number", "share", "of the test images; of the front alone"),
    Column("repeat", "whole", "", "trainings of this network on other seeds before it"),
    Column("study_block", "whole", "", "block of the guideline study that it belongs to"),
    Column("outside_space", "flag", "", "whether the space cannot draw it: matched in cost"),
    Column("rung", "whole", "", "at which it ended, 0 the lowest; of runs with halving"),
    Column("length", "number", "share", "of the full training, where it ended"),
    Column("continues", "whole", "", "number of the stopped trial that it goes on with"),
    Column("estimate", "number", "share", "of the score, drawn towards what alike networks reach"),
    Column("estimate_low", "number", "share", "lower end of its 95 % interval"),
    Column("estimate_high", "number", "share", "its upper end"),
    Column("rank_low", "whole", "", "best rank in its 95 % interval"),
    Column("rank_high", "whole", "", "worst rank in it"),
    Column("tied", "flag", "", "whether the first network cannot be told from it"),
    Column("p_best", "number", "probability", "that it is the best one"),
    Column("p_front", "number", "probability", "that it belongs to the front"),
    Column("predicted_gain", "number", "share", "of score that the measured guidelines predict"),
    Column("predicted_gain_low", "number", "share", "lower end of its 95 % interval"),
    Column("predicted_gain_high", "number", "share", "its upper end"),
    Column("params_train", "whole", "parameters", "of the training form"),
    Column("macs_train", "whole", "multiply-adds", "of one image through the training form"),
    Column("params_nonzero", "whole", "parameters", "of a sparse network that are not zero"),
    Column("macs_nonzero", "whole", "multiply-adds", "of a sparse network that are not by zero"),
    Column("activations", "whole", "numbers", "that the merged network's operators give"),
    Column("block", "text", "", "family of its blocks"),
    Column("stem", "text", "", "kind of the stem"),
    Column("weights_sparsity", "number", "share", "of weights that are held at zero"),
    Column("kernels", "text", "", "by stage, stages apart by |, blocks of one stage by /"),
    Column("depths", "text", "", "blocks by stage"),
    Column("widths", "text", "", "channels by stage"),
    Column("structures", "text", "", "what adds depth inside its blocks, each once"),
    Column("steps", "whole", "", "of its training, from the very first"),
    Column("merge_error", "number", "share", "by which merged and training form differ at most"),
    Column("train_seconds", "number", "s", "of training alone"),
    Column("peak_bytes", "whole", "bytes", "of memory beyond the libraries"),
    Column("latency_predicted_ms", "number", "ms", "that the latency model gave beforehand"),
    Column("at_s", "number", "s", "from the begin of the run to this result, over all sessions"),
)
"""Further columns, after the contract."""

COLUMNS = (*CONTRACT, *MORE)
BY_NAME = {column.name: column for column in COLUMNS}


def table_schema() -> dict[str, Any]:
    """Describe the tables of a run as a Table Schema: `fields`, `primaryKey`, `missingValues`.

    Fields have `pandas` too, the dtype that holds a column with gaps: read_csv(dtype=...).
    """
    fields = []
    for column in COLUMNS:
        unit = f" ({column.unit})" if column.unit else ""
        fields.append(
            {
                "name": column.name,
                "type": SCHEMA_TYPES[column.kind],
                "description": column.meaning + unit,
                "pandas": column.dtype,
            }
        )
    return {"fields": fields, "primaryKey": "trial", "missingValues": [""]}
