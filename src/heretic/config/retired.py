"""Settings of earlier versions that are gone, with what to do instead."""

_SEEDING = (
    "gradient seeding is gone, because it found nothing better than directions refined by gradient do, which are the "
    "default (experiments/methods); leave it out, or name --extractor rdo"
)
RETIRED = {
    "gradient_seeding": _SEEDING,
    "gradient_seeding_starts": _SEEDING,
    "gradient_seeding_steps": _SEEDING,
    "gradient_seeding_prompts": _SEEDING,
    "layers": (
        "all layers can be edited, because leaving some out by how they separate prompts removed hardly any of the "
        "behaviour (experiments/methods); leave it out, or weigh ranges of layers with --layer-profile"
    ),
}
"""Name -> why it went and what to use, to stand between a colon and a full stop."""
