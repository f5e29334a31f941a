"""Messages that a client may send, for hypothesis."""

import hypothesis.strategies as st
import numpy as np

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([np.zeros(2), np.array("x"), np.array(True), np.float32("nan"), np.int8(3)])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
OUR_KEYS = st.sampled_from(
    [
        "mode",
        "request_class",
        "batch",
        "session",
        "deadline_ms",
        "observation_stamp",
        "seed",
        "noise",
        "num_steps",
        "rtc",
    ]
)
