"""Read model: the words that are spoken."""

from projectors.text_projection import TextProjection, configs_table, text_table, words_table
from projectors.timeline import videos_table


class TranscriptFts(TextProjection):
    """One row for each transcript segment."""

    name = "transcript_fts"
    artifact_type = "transcript.segment"
    tables = (text_table(name), videos_table(name), configs_table(name), words_table(name))
