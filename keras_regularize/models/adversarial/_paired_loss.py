"""The base of the models that train on a loss of clean and adversarial logits."""

from typing import Any

from keras import ops

from keras_regularize.autodiff import Batch
from keras_regularize.autodiff.functional import without_samples
from keras_regularize.models.attacked_model import AttackedModel
from keras_regularize.scores import (
    class_outputs,
    class_scores,
    gives_logits,
    one_output,
    output_labels,
    sample_mean,
)


class PairedLossModel(AttackedModel):
    """Trains on `paired_loss`, which replaces the compiled loss or is added to it.

    Weight and activity penalties and the terms that a wrapper inside adds stay, sample weights count, and the
    compiled loss says whether the model gives out logits; of probabilities the logarithms are taken. The
    statistics of batch normalization move with the clean pass.
    """

    needs_probabilities = True
    #: Whether the compiled loss stays.
    adds = False

    def paired_loss(self, batch: Batch, logits: Any, adversarial_logits: Any) -> Any:
        """Values per sample, or per position, of two scores `(…, classes)`.

        `batch.y` are the labels that belong to them, and `batch.extra["clean"]` the outputs, which carry a mask.
        """
        raise NotImplementedError

    def objective(self, batch, forward):
        kept = batch if self.adds else without_samples(batch)
        rest, values = super().objective(kept, forward)
        from_logits = gives_logits(forward)
        clean, attacked = forward.outputs_at(batch.x), self.adversarial_outputs(batch, forward)
        labels = output_labels(batch.y, clean, forward)
        pair = [class_scores(class_outputs(z, forward), from_logits) for z in (clean, attacked)]
        given = batch.replace(y=labels).add(clean=one_output(clean, forward))
        loss = sample_mean(forward, self.paired_loss(given, *pair), batch)
        return rest + ops.cast(loss, rest.dtype), values
