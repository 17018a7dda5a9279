"""A CLIP that nobody trained, saved as a real one is: `python -m tests.support.clip FOLDER DIM SEED`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("<pad>", "<start>", "<end>", "<unknown>", "red", "blue", "picture", "of", "a", "car")


def write_clip(folder: Path, *, dim: int = 512, seed: int = 1) -> Path:
    """Model, image processor and tokenizer; the folder. Made in another process: the test's own loads no torch."""
    command = [sys.executable, "-m", "tests.support.clip", str(folder), str(dim), str(seed)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def _write(folder: str, dim: int, seed: int) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    config = CLIPConfig(
        text_config=small | text, vision_config=small | {"image_size": 32, "patch_size": 8}, projection_dim=dim
    )
    torch.manual_seed(seed)
    model = CLIPModel(config)
    for name, weights in model.named_parameters():
        if weights.dim() > 1:  # larger than an untrained one's, which sees the same in every picture
            torch.nn.init.normal_(weights, std=0.3)
        elif "class_embedding" in name:
            torch.nn.init.zeros_(weights)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", 1), ("<end>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=16, pad_token="<pad>", bos_token="<start>", eos_token="<end>",
        unk_token="<unknown>",
    ).save_pretrained(folder)  # fmt: skip


if __name__ == "__main__":
    _write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
