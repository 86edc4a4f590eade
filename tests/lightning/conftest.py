"""A Trainer that leaves nothing behind."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl


@pytest.fixture
def trainer(tmp_path):
    def make(**changes):
        settings = {
            "accelerator": "cpu",
            "max_epochs": 3,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return pl.Trainer(**{**settings, **changes})

    return make
