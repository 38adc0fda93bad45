"""Train a model that only a pickle keeps, use it side by side, correct it, hand it back."""

from kitaru import checkpoint, flow


class Model:
    """A library's kind of object: it says itself how it is copied."""

    def __init__(self, weights: dict[str, int]) -> None:
        self.weights = weights
        self.notes: list[str] = []

    def __reduce__(self):
        return restored, (self.weights, self.notes)

    def score(self, text: str) -> int:
        return sum(self.weights.get(word, 0) for word in text.split())


def restored(weights: dict[str, int], notes: list[str]) -> Model:
    model = Model(weights)
    model.notes = notes
    return model


@checkpoint(pickle=True)
def fit(rows: list[tuple[str, int]]) -> Model:
    weights: dict[str, int] = {}
    for text, label in rows:
        for word in text.split():
            weights[word] = weights.get(word, 0) + label
    return Model(weights)


@checkpoint
def predict(text: str, model: Model) -> int:
    return model.score(text)


@checkpoint(pickle=True)
def corrected(model: Model, word: str) -> dict[str, object]:
    return {"model": Model({**model.weights, word: 10}), "words": (word,)}


@flow
def train(good: str = "calm clear", bad: str = "late torn") -> list[object]:
    model = fit([(good, 1), (bad, -1)])
    same = model
    scores = [
        future.result() for future in predict.map(["calm water", "torn and late"], model=model)
    ]
    model.notes.append("used")
    late = predict.submit("calm sky", same)
    better = corrected(model, "sky")
    after = predict("calm sky", better["model"])
    return [scores, late.result(), after, same is model, list(same.notes), better["words"], model]
