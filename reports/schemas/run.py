"""The tables of the whole run."""

from __future__ import annotations

from winnow.reports.schemas.column import NODE, RUN, Column, TableSchema

_NO_SIZES = "not recorded"

TABLES = {
    "failures": TableSchema(
        "one training that ended with an error or diverged",
        (
            RUN,
            Column("phase", "string", "search or retrain"),
            Column(
                "trial",
                "int",
                "number of the trial that the config comes from",
                null="a baseline that no trial completed",
            ),
            Column("seed", "int", "seed of the training", null="phase is search and no epoch finished"),
            Column("status", "string", "diverged, out_of_memory, failed, lost or timed_out"),
            Column("epoch", "int", "last finished epoch; 0 if there was none", "epochs"),
            Column("error", "string", "error message", null="not recorded"),
            Column("time", "time", "end of the training", null="not recorded"),
            NODE,
            Column("device", "string", "device of the training", null="not recorded"),
        ),
    ),
    "data": TableSchema(
        "the images of one class in one split",
        (
            RUN,
            Column("split", "string", "train, validation or test"),
            Column("class", "int", "number of the class; the first class is 0"),
            Column("class_name", "string", "name of the class"),
            Column("num_images", "int", "images of the class in the split", "images"),
            Column("share", "float", "num_images divided by the images of the split", "fraction"),
            Column("height", "int", "height of every image that the networks see", "pixels"),
            Column("width", "int", "width of every image that the networks see", "pixels"),
            Column("channels", "int", "1 for grey images, 3 for colour images"),
            Column("files_num_sizes", "int", "different sizes of the files of the split", null=_NO_SIZES),
            Column("files_min_height", "int", "smallest height of a file of the split", "pixels", _NO_SIZES),
            Column("files_max_height", "int", "largest height of a file of the split", "pixels", _NO_SIZES),
            Column("files_min_width", "int", "smallest width of a file of the split", "pixels", _NO_SIZES),
            Column("files_max_width", "int", "largest width of a file of the split", "pixels", _NO_SIZES),
        ),
    ),
    "environment": TableSchema(
        "one fact about the settings and the environment of the run",
        (
            RUN,
            Column(
                "section",
                "string",
                "run, settings, data, versions, hardware, `amendment N`, nodes, warm_start or earlier_tests",
            ),
            Column("key", "string", "name of the fact"),
            Column("value", "string", "value as text; lists and mappings as JSON", null="unknown"),
        ),
    ),
}
