"""A Places365 checkpoint that nobody trained, in the format of the real one: `python -m tests.support.places FOLDER ARCHITECTURE`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 365


def name_of(number: int) -> str:
    """As the real lists name a class, some with a variant."""
    return f"/{'abc'[number % 3]}/made_up {number}".replace(" ", "_") + (
        "/outdoor" if number % 10 == 0 else ""
    )


def write_labels(folder: Path, classes: int = CLASSES) -> None:
    """Both lists: every third class is outdoors."""
    names = [name_of(number) for number in range(classes)]
    labels = "".join(f"{name} {number}\n" for number, name in enumerate(names))
    (folder / "categories_places365.txt").write_text(labels)
    marks = "".join(f"{name} {2 if number % 3 == 0 else 1}\n" for number, name in enumerate(names))
    (folder / "IO_places365.txt").write_text(marks)


def write_checkpoint(folder: Path, architecture: str = "resnet18") -> Path:
    """Checkpoint and labels; its path. Made in another process: the test's own loads no torch."""
    write_labels(folder)
    command = [sys.executable, "-m", "tests.support.places", str(folder), architecture]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / f"{architecture}_places365.pth.tar"


def _write(folder: Path, architecture: str) -> None:
    import torch
    import torchvision

    torch.manual_seed(5)
    model = getattr(torchvision.models, architecture)(num_classes=CLASSES)
    # Sure of itself: an untrained one gives every class the same.
    torch.nn.init.normal_(model.fc.weight, std=0.5)
    weights = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(
        {"epoch": 90, "arch": architecture, "state_dict": weights, "best_prec1": 54.0},
        folder / f"{architecture}_places365.pth.tar",
    )


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2])
