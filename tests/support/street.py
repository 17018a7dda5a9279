"""A film of one fixed view, made in code: what moves is boxes, what stays is a textured ground."""

from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, RATE, SECONDS = 768, 432, 10, 30


def street_film(path: Path) -> Path:
    """30 s, 10 frames a second, H.264 with a key frame every 25 frames, and a quiet tone."""
    ground = np.random.default_rng(7).integers(90, 130, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    ground = ground.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "g": "25"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = out.add_stream("aac", rate=16_000, layout="mono")
        for number in range(RATE * SECONDS):
            picture = ground.copy()
            for lane, (speed, colour) in enumerate(((9, (180, 60, 50)), (-7, (60, 80, 170)), (5, (70, 140, 80)))):
                left, top = (200 * lane + speed * number) % (WIDTH + 120) - 120, 120 + 90 * lane
                picture[top : top + 60, max(0, left) : max(0, left + 120)] = colour
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        tone = 0.05 * np.sin(np.arange(16_000 * SECONDS, dtype=np.float32) * (2 * np.pi * 220 / 16_000))
        quiet = av.AudioFrame.from_ndarray(tone.astype(np.float32)[np.newaxis], format="fltp", layout="mono")
        quiet.sample_rate, quiet.pts = 16_000, 0
        out.mux(sound.encode(quiet))
        out.mux(sound.encode(None))
    return path
