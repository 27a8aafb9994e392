"""Names of the classes of data sets that have more than numbers, in the order of the classes."""

from __future__ import annotations

from esl_neuro.data.event_datasets import DVS_CIFAR10_CLASSES

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    # github.com/zalandoresearch/fashion-mnist, README, "Labels"
    "fashion_mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10": DVS_CIFAR10_CLASSES,
    "dvs_cifar10": DVS_CIFAR10_CLASSES,
    # gesture_mapping.csv of the data set
    "dvs128_gesture": (
        *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
        *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
    ),
    "shd": (*ENGLISH, *GERMAN),  # extra/keys of the files
}
