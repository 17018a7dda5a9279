"""Producers: one module each, listed once in PRODUCERS. Listing them imports no model library."""

from workers.embedding import Embedding
from workers.face_detection import FaceDetection
from workers.frame_embedding import FrameEmbedding
from workers.metadata import MetadataExtraction
from workers.object_detection import ObjectDetection
from workers.ocr import Ocr
from workers.place_detection import PlaceDetection
from workers.producer import Producer
from workers.scene_detection import SceneDetection
from workers.thumbnails import Thumbnails
from workers.transcription import Transcription

PRODUCERS: tuple[type[Producer], ...] = (
    MetadataExtraction,
    SceneDetection,
    Transcription,
    ObjectDetection,
    PlaceDetection,
    Embedding,
    FrameEmbedding,
    FaceDetection,
    Ocr,
    Thumbnails,
)
