"""Files of a wrapper: variables, seeds and configuration."""

from typing import Any

from keras_regularize.models.step.hooks import Hooks
from keras_regularize.models.step.seeds import SavedSeeds


class Saving(SavedSeeds, Hooks):
    """Saves and loads, building first what the wrapped model allows to build."""

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        self.ensure_built()
        try:
            super().load_weights(filepath, *args, **kwargs)
        except ValueError as error:
            raise ValueError(
                f"{error}\n\nA file of weights that the wrapped model wrote is loaded by "
                f"`{self.name}.model.load_weights`."
            ) from error

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.ensure_built()
        if not self.built:
            super().build_from_config(config)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.ensure_built()
        super().save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        self.ensure_built()
        super().save_weights(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        self.ensure_built()
        super().export(*args, **kwargs)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        self.ensure_built()
        super().summary(*args, **kwargs)
