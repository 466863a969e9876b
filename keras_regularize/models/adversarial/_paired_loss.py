"""The base of the models that train on a loss of clean and adversarial logits."""

from keras import ops

from keras_regularize.autodiff.functional import without_samples
from keras_regularize.compiled_losses import per_sample
from keras_regularize.models._attacked_model import AttackedModel
from keras_regularize.scores import class_scores, compiled_loss, one_output, uses_logits


class PairedLossModel(AttackedModel):
    """Trains on `paired_loss` in the place of the compiled loss.

    Weight and activity penalties and the terms that a wrapper inside adds stay, sample weights count, and the
    compiled loss says whether the model gives out logits; of probabilities the logarithms are taken. The
    statistics of batch normalization move with the clean pass.
    """

    def paired_loss(self, batch, logits, adversarial_logits):
        """Values per sample, or per position, of two scores `(…, classes)`."""
        raise NotImplementedError

    def objective(self, batch, forward):
        penalties, values = super().objective(without_samples(batch), forward)
        from_logits = uses_logits(compiled_loss(forward))
        outputs = forward.outputs_at(batch.x), self.adversarial_outputs(batch, forward)
        scores = [class_scores(one_output(entry), from_logits) for entry in outputs]
        loss = forward.sample_mean(per_sample(self.paired_loss(batch, *scores)), batch)
        return penalties + ops.cast(loss, penalties.dtype), values
