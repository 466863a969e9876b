"""Files of a wrapper: variables, seeds and configuration."""

from typing import TYPE_CHECKING, Any

from keras_regularize.models.step.hooks import Hooks

if TYPE_CHECKING:
    from keras import Model as _Model
else:  # Comes before the model of Keras, among the bases.
    _Model = object


class SavesSeeds(_Model):
    """The states of random generators in saved files: Keras saves none, but training is to go on as it stopped."""

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for i, seed in enumerate(self._seed_states()):
            store[f"seed_{i}"] = seed.numpy()

    def load_own_variables(self, store: Any) -> None:
        seeds = {key: store[key] for key in store.keys() if key.startswith("seed_")}
        super().load_own_variables({k: store[k] for k in store.keys() if k not in seeds})
        for i, seed in enumerate(self._seed_states()):
            if f"seed_{i}" in seeds:
                seed.assign(seeds[f"seed_{i}"])

    def _seed_states(self):
        return [v for v in self.non_trainable_variables if v.name == "seed_generator_state"]


class Saving(SavesSeeds, Hooks):
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
