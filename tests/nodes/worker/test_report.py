"""What the worker's log says of events."""


def test_events_are_told_in_words(room):
    told = {"iteration": 3, "reward": {"hps": 0.27123456}, "window": [2, 6], "images": [{}] * 9, "message": "a\nb"}
    words = "iteration 3, reward (hps 0.2712), window 2 6, images 9 of them, message a\nb"
    assert room("nodes.worker.report").words(told) == words
