"""Creates the table of the images of a run, which counts the images of each class in each split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]
SIZES = ("num_sizes", "min_height", "max_height", "min_width", "max_width")


def data_rows(run: RunRecords) -> list[Row]:
    """Return one row per split and class, from the summary in study.yaml; none for a run of an older Winnow."""
    data = run.study.get("data") or {}
    summary = data.get("summary") or {}
    rows: list[Row] = []
    for split, facts in (summary.get("splits") or {}).items():
        sizes = facts.get("sizes") or {}
        for number, count in enumerate(facts["by_class"]):
            rows.append(
                {
                    "run": run.name,
                    "split": split,
                    "class": number,
                    "class_name": str(data["class_names"][number]),
                    "num_images": count,
                    "share": count / facts["images"] if facts["images"] else 0.0,
                    "height": summary["image_size"][0],
                    "width": summary["image_size"][1],
                    "channels": summary["channels"],
                    **{f"files_{key}": sizes.get(key) for key in SIZES},
                }
            )
    return rows
