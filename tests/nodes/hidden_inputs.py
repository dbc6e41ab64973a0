"""A node class with hidden inputs, as ComfyUI makes it to execute it."""


def with_hidden(node, **values):
    """A clone of the node class whose `hidden` holds these values, by their names in `io.Hidden`."""
    from comfy_api.latest import io

    hidden = {io.Hidden[name]: value for name, value in values.items()}
    # 0.3.75 wants the values themselves, newer versions want them under this key.
    return node.PREPARE_CLASS_CLONE({**hidden, "hidden_inputs": hidden})
