"""State of random numbers in a saved model."""

from typing import Any


class SavedSeeds:
    """Saves what the generators of random numbers have come to, so that training goes on where it stopped.

    Keras saves no seeds. Comes before `keras.Model` among the bases.
    """

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)  # type: ignore[misc]
        for i, seed in enumerate(self._seed_states()):
            store[f"seed_{i}"] = seed.numpy()

    def load_own_variables(self, store: Any) -> None:
        seeds = {key: store[key] for key in store.keys() if key.startswith("seed_")}
        super().load_own_variables(  # type: ignore[misc]
            {key: store[key] for key in store.keys() if key not in seeds}
        )
        for i, seed in enumerate(self._seed_states()):
            if f"seed_{i}" in seeds:
                seed.assign(seeds[f"seed_{i}"])

    def _seed_states(self):
        variables = self.non_trainable_variables  # type: ignore[attr-defined]
        return [v for v in variables if v.name == "seed_generator_state"]
