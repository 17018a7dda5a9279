"""Read model: the words that are seen."""

from projectors.text_projection import TextProjection, configs_table, text_table, words_table
from projectors.timeline import videos_table


class OcrFts(TextProjection):
    """One row for each line of on-screen text."""

    name = "ocr_fts"
    artifact_type = "ocr.text"
    tables = (text_table(name), videos_table(name), configs_table(name), words_table(name))
