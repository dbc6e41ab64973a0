"""What a worker tells before it trains."""


def test_a_base_model_that_was_replaced_is_told_once(room, folder):
    another_base = room("nodes.worker.train").another_base
    assert another_base(folder, "one", 0) == []
    assert another_base(folder, "one", 5) == []
    (told,) = another_base(folder, "two", 7)
    assert told.startswith("The base model isn't the one that the first 7 iterations were trained on")
    assert another_base(folder, "two", 9) == []
    (folder.path / "base.json").write_text("damaged")
    assert another_base(folder, "three", 9) == []
