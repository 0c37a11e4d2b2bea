"""The filter against a plain one written out with matrices, and what an outage does to it."""

import numpy as np
import torch

from models.data.kalman import CADENCE_S, NOISE, STANDING_MPS, follow


def drive(num_steps=14, seed=0):
    """A car that goes round a bend, stands, and goes on: true places [T, 2] and fixes [T, 6]."""
    random = np.random.default_rng(seed)
    speed = np.where(np.arange(num_steps) // 3 == 2, 0.0, random.uniform(5, 12, num_steps))
    turn = random.uniform(-15, 15, num_steps) * (speed > 0)
    turned = np.radians(turn * CADENCE_S)
    heading = 0.4 + np.cumsum(turned)
    middle = heading - turned / 2
    places = np.cumsum(np.stack([np.cos(middle), np.sin(middle)], 1) * (speed * CADENCE_S)[:, None], 0)
    course = heading + random.normal(0, 0.05, num_steps)
    fixes = np.column_stack([places + random.normal(0, 8, places.shape), np.sin(course), np.cos(course), speed, turn])
    return places, fixes.astype(np.float32)


def reference(fixes, seen, start, start_cov):
    """Predict and update with F, Q, H and R, one measured number after another."""
    x, cov = np.array(start, float), np.array(start_cov, float)
    rows = []
    for step, (fix, here) in enumerate(zip(fixes.astype(float), seen, strict=True)):
        speed, moving = fix[4], fix[4] > STANDING_MPS
        if step:
            turned, driven = np.radians(fix[5] * CADENCE_S) * moving, speed * CADENCE_S
            east, north = driven * np.cos(x[2] + turned / 2), driven * np.sin(x[2] + turned / 2)
            slope = np.array([[1, 0, -north], [0, 1, east], [0, 0, 1]])
            along = np.array([east, north, 0]) * NOISE.speed_factor
            drift = [NOISE.drift_m**2, NOISE.drift_m**2, np.radians(NOISE.turn_dps * CADENCE_S) ** 2]
            x = x + np.array([east, north, turned])
            cov = slope @ cov @ slope.T + np.outer(along, along) + np.diag(drift) * moving
        if here:
            errors = fix[:2] - x[:2]
            far = (errors**2 / (np.diag(cov)[:2] + NOISE.fix_m**2)).sum()
            doubted = NOISE.fix_m**2 * max(1, far / NOISE.gate)
            for axis in (0, 1, 2):
                variance = doubted if axis < 2 else (NOISE.course_mps / max(speed, STANDING_MPS)) ** 2
                error = fix[axis] - x[axis] if axis < 2 else np.arctan2(fix[2], fix[3]) - x[2]
                error = error if axis < 2 else np.arctan2(np.sin(error), np.cos(error))
                if axis == 2 and not moving:
                    continue
                row = np.eye(3)[axis]
                gain = cov @ row / (row @ cov @ row + variance)
                x, cov = x + gain * error, (np.eye(3) - np.outer(gain, row)) @ cov
        rows.append(np.concatenate([x, np.diag(cov)]))
    return np.array(rows)


def filtered(fixes, seen):
    with torch.no_grad():
        track = follow(torch.from_numpy(fixes)[None], torch.from_numpy(seen.astype(np.float32))[None])
    return torch.cat([track.state, track.spread], 2)[0].numpy()


def test_it_is_the_filter_of_the_textbook():
    _, fixes = drive()
    seen = np.ones(len(fixes), bool)
    seen[5:8] = False
    fixes[10, :2] += 200  # a jump, which is to be doubted
    # With one fix alone the filter has only its start to go by: the same start for both.
    first = filtered(fixes[:1], np.zeros(1, bool))
    alone = filtered(fixes, np.zeros(len(fixes), bool))
    assert np.allclose(first[0, :2], 0) and np.isfinite(alone).all()
    ours = filtered(fixes, seen)
    start, cov = start_of(fixes, seen)
    np.testing.assert_allclose(ours, reference(fixes, seen, start, cov), rtol=2e-3, atol=2e-3)


def start_of(fixes, seen):
    """The state before the first fix, by hand: the speed-weighted mean course, and the first fix."""
    speed, turned = fixes[:, 4].astype(float), np.radians(fixes[:, 5] * CADENCE_S) * (fixes[:, 4] > STANDING_MPS)
    since = np.cumsum(turned) - turned[0]
    course = np.arctan2(fixes[:, 2], fixes[:, 3]).astype(float) - since
    weight = seen * (speed + 0.05) ** 2
    heading = np.arctan2((weight * np.sin(course)).sum(), (weight * np.cos(course)).sum())
    variance = (NOISE.course_mps / (speed * seen).max()) ** 2
    return [*fixes[0, :2], heading], np.diag([NOISE.first_m**2, NOISE.first_m**2, variance])


def test_it_carries_on_through_an_outage_and_begins_before_the_first_fix():
    places, fixes = drive(num_steps=20, seed=3)
    seen = np.ones(len(fixes), bool)
    seen[:3], seen[-5:] = False, False
    hidden = fixes.copy()
    hidden[~seen, :4] = 0
    states = filtered(hidden, seen)
    assert np.linalg.norm(states[:, :2] - places, axis=1).max() < 30
    assert np.linalg.norm(states[-1, :2] - places[-1]) < np.linalg.norm(fixes[-6, :2] - places[-1]), "the last fix"
    assert (np.diff(states[-5:, 3:5].sum(1)) >= 0).all(), "less and less sure"
    hidden[~seen, :4] = 77.0
    np.testing.assert_array_equal(filtered(hidden, seen), states, "what is hidden does not matter")
