"""What is on a card: its facts, messages, captions and notes, and how chance draws them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

SEED = 1
"""The seed of the committed data set."""

MOOD_SD = 1 / 3
PICTURE_NOISE = 0.261
MESSAGE_NOISE = 0.218
VOICE_NOISE = 0.30
"""Standard deviations of the mood and of each witness's noise, on the mood's own scale from -1 to
1.
"""

SPLITS = {"train": 2000, "val": 800, "test": 700}
VOICED = {"train": 420, "val": 100, "test": 180}
FILMED = {"train": 640, "val": 100, "test": 140}
"""How many cards each split has; how many of them, the first ones, have a voice; and a clip."""

COLOURS = {
    "yellow": ((250, 208, 66), "黄色"),
    "red": ((226, 84, 72), "红色"),
    "green": ((112, 186, 84), "绿色"),
    "blue": ((92, 150, 228), "蓝色"),
    "purple": ((170, 116, 204), "紫色"),
    "pink": ((247, 168, 196), "粉色"),
}

OBJECTS = {
    # drawing: (English, Chinese with its measure word). Six English words are each two drawings.
    "eyeglasses": ("glasses", "一副眼镜"),
    "tumblers": ("glasses", "两个玻璃杯"),
    "bat (animal)": ("a bat", "一只蝙蝠"),
    "bat (sport)": ("a bat", "一根球棒"),
    "mouse (animal)": ("a mouse", "一只老鼠"),
    "mouse (computer)": ("a mouse", "一个鼠标"),
    "crane (bird)": ("a crane", "一只鹤"),
    "crane (machine)": ("a crane", "一台起重机"),
    "bow (ribbon)": ("a bow", "一个蝴蝶结"),
    "bow (weapon)": ("a bow", "一把弓"),
    "fan (hand)": ("a fan", "一把扇子"),
    "fan (electric)": ("a fan", "一台风扇"),
    "hat": ("a hat", "一顶帽子"),
    "balloon": ("a balloon", "一个气球"),
    "umbrella": ("an umbrella", "一把雨伞"),
    "flower": ("a flower", "一朵花"),
    "boat": ("a boat", "一艘小船"),
    "fish": ("a fish", "一条鱼"),
    "key": ("a key", "一把钥匙"),
    "candle": ("a candle", "一支蜡烛"),
}

WEATHERS = {
    "sun": ("in the sun", "阳光下"),
    "rain": ("in the rain", "雨中"),
    "snow": ("in the snow", "雪中"),
    "night": ("at night", "夜里"),
    "storm": ("in a storm", "雷电中"),
}

RELATIONS = {"beside": "旁边有", "on": "头上有"}

UNSEEN = {
    (colour, thing)
    for i, thing in enumerate(OBJECTS)
    for j, colour in enumerate(COLOURS)
    if (i + j) % len(COLOURS) == 0 or (i % 5 == 0 and (i + j) % len(COLOURS) == 3)
}
"""The combinations (colour, object) that no training or validation card shows: 24 of 120."""

MOOD_WORDS = {"sad": (-1.0, -0.35), "calm": (-0.12, 0.12), "happy": (0.35, 1.0)}
"""Each mood word's range of expressions. A card in a gap between the ranges gets no mood word."""
MOOD_WORDS_ZH = {"sad": "难过的", "calm": "平静的", "happy": "开心的"}

NOTED = {"train": 550, "val": 60, "test": 120}
"""How many cards of each split, the first ones, have a spoken note."""

NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip

CHANGES = ("mood", "weather", "place")

DIRECTIONS = {"mood": ("happier", "sadder"), "place": ("left", "right")}
CLIP_FRAMES = 8
"""How many frames a clip has."""
CLIP_RANGE = {"mood": 1.0, "place": 0.19}
"""The farthest from 0 that a clip shows: of the expression, and of the face's place."""
CLIP_STEP = {"mood": 0.7, "place": 0.14}
"""By how much a clip changes them, if it does."""
CLIP_SPANS = (2, 4)
"""How many frames a change may take. Before and after it nothing changes.

Powers of two: so 1/4 of rain in snow and 3/4 of snow in rain are the same to the last bit, and no
rounding tells which came first.
"""

VOICES = ("en-us+m3", "en-gb+m7", "en-us+f2", "en-gb-scotland+m1", "en-gb+f4", "en-us+m2")
HELD_OUT_VOICES = ("en-us+f5", "en-gb-scotland+m4")
"""Voices of the train and val cards; voices that only test cards have."""


# --- The message: a small grammar whose sentences have a known sentiment

NOUNS = (
    "the food",
    "the sea",
    "the hotel",
    "our room",
    "the museum",
    "the beach",
    "the music",
    "the guide",
    "the soup",
    "the view",
    "the market",
    "the bus",
    "the garden",
    "the tea",
)
ADJECTIVES = {
    "terrible": -0.92,
    "awful": -0.84,
    "horrible": -0.76,
    "bad": -0.62,
    "poor": -0.52,
    "boring": -0.44,
    "dull": -0.34,
    "mediocre": -0.24,
    "plain": -0.12,
    "ordinary": 0.0,
    "fine": 0.16,
    "decent": 0.24,
    "nice": 0.36,
    "pleasant": 0.44,
    "good": 0.54,
    "lovely": 0.68,
    "great": 0.76,
    "superb": 0.86,
    "wonderful": 0.94,
}
INTENSIFIERS = {"": 1.0, "slightly": 0.4, "fairly": 0.7, "really": 1.25, "truly": 1.4}
STRONG = ("", "really", "truly")
"""The intensifiers that a negation may stand before: nobody writes "not slightly good"."""
NEGATIONS = {"": 1.0, "not": -0.6, "never": -0.8}
LONG_NEGATION = ("nobody would say that", -0.6)
JOINS = {
    # form: the weights of its first and its second clause
    "{0} and {1}": (0.5, 0.5),
    "{0} but {1}": (0.3, 0.7),
    "although {0}, {1}": (0.3, 0.7),
    "{0} although {1}": (0.7, 0.3),
}
NAMES = ("Ana", "Tom", "Mei", "Leo", "Ida", "Sam", "Lin", "Max")
NEW_NAMES = ("Zoe", "Raj")
"""Names that only test messages greet: words that training never saw."""
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Card:
    """One postcard: what is drawn, written and said, with every factor behind it."""

    name: str
    split: str
    seen: bool
    mood: float
    expression: float
    sentiment: float
    tone: float
    colour: str
    object: str
    relation: str
    weather: str
    side: str
    width: int
    height: int
    face_x: float
    face_y: float
    face_radius: float
    message: str
    caption: str
    caption_zh: str
    voice: str = ""
    change: str = ""
    change_to: str = ""
    summary: str = ""
    clip_expression: float | None = None
    clip_x: float | None = None
    clip_from: int | None = None
    clip_until: int | None = None
    clip_light: int | None = None


def clip_to_range(value: float) -> float:
    """Limits a rating to the scale from -1 to 1 and rounds it to four digits."""
    return round(min(1.0, max(-1.0, value)), 4)


def clause_and_score(rng: random.Random, may_negate_long: bool = True) -> tuple[str, float]:
    """Draws one clause ("the food was not truly lovely") and its sentiment.

    The score is the adjective's own, times the intensifier's factor, times the negation's.
    """
    adjective, score = rng.choice(list(ADJECTIVES.items()))
    negation, sign = rng.choices(list(NEGATIONS.items()), weights=(14, 2, 1))[0]
    if abs(score) < 0.3:
        negation, sign = "", 1.0
    intensifier = rng.choice(STRONG if negation else list(INTENSIFIERS))
    score = sign * max(-1.0, min(1.0, INTENSIFIERS[intensifier] * score))
    words = [rng.choice(NOUNS), "was", negation, intensifier, adjective]
    if may_negate_long and not negation and rng.random() < 0.08:
        phrase, sign = LONG_NEGATION
        words, score = [phrase, *words], sign * score
    return " ".join(word for word in words if word), score


def sentence_and_score(rng: random.Random) -> tuple[str, float]:
    """Draws one or two clauses and joins them; the join says how much each clause weighs."""
    if rng.random() < 0.2:
        return clause_and_score(rng)
    form, (first_weight, second_weight) = rng.choice(list(JOINS.items()))
    # "nobody would say that A and B" would leave open whether B is denied too
    first, first_score = clause_and_score(rng, may_negate_long=form != "{0} and {1}")
    second, second_score = clause_and_score(rng)
    score = first_weight * first_score + second_weight * second_score
    return form.format(first, second), score


def message_for(sentiment: float, rng: random.Random, names: tuple[str, ...]) -> tuple[str, float]:
    """Writes a message whose sentiment is within 0.015 of the one asked for, or the nearest of 400.

    names: those whom it may greet. Returns the message and its exact sentiment, which is what a
    careful reader would say.
    """
    best, best_score = "", math.inf
    for _ in range(400):
        sentence, score = sentence_and_score(rng)
        if abs(score - sentiment) < abs(best_score - sentiment):
            best, best_score = sentence, score
        if abs(best_score - sentiment) < 0.015:
            break
    opening = rng.choice(("", "Dear {name}, ", "Dear {name}, today is {day}. ", "{day}. "))
    opening = opening.format(name=rng.choice(names), day=rng.choice(DAYS))
    if not opening.endswith(", "):
        best = best[0].upper() + best[1:]
    return opening + best + ".", clip_to_range(best_score)


# --- The caption: a function of what is drawn


def mood_word(expression: float) -> str:
    """The word for an expression: sad, calm, happy, or "" in the gaps between their ranges."""
    for word, (low, high) in MOOD_WORDS.items():
        if low <= expression <= high:
            return word
    return ""


def caption_en(expression: float, colour: str, thing: str, relation: str, weather: str) -> str:
    """The English caption of a card, for example "a sad red face beside a bat in the rain"."""
    word = mood_word(expression)
    face = " ".join(part for part in ("a", word, colour, "face") if part)
    noun = OBJECTS[thing][0]
    where = f"beside {noun}" if relation == "beside" else f"with {noun} on its head"
    return f"{face} {where} {WEATHERS[weather][0]}"


def caption_zh(expression: float, colour: str, thing: str, relation: str, weather: str) -> str:
    """The Chinese caption of a card. It names the object without ambiguity."""
    word = mood_word(expression)
    face = f"一张{MOOD_WORDS_ZH.get(word, '')}{COLOURS[colour][1]}的脸"
    return f"{WEATHERS[weather][1]}{face}，{RELATIONS[relation]}{OBJECTS[thing][1]}"


def summary_of(colour: str, weather: str, change: str, change_to: str) -> str:
    """One sentence that says what a clip shows changing."""
    if change == "mood":
        return f"the {colour} face becomes {change_to}"
    if change == "weather":
        return f"the weather changes from {weather} to {change_to}"
    return f"the {colour} face moves to the {change_to}"


# --- Drawing the factors of a card


def sample_card(seed: int, index: int, split: str, combinations: str) -> Card:
    """Draws one card's factors and texts (no pixels yet).

    combinations: "all", "seen" or "unseen" pairs of (colour, object). The same (seed, index, split,
    combinations) gives the same card on every computer.
    """

    def stream(purpose: str) -> random.Random:
        return random.Random(f"{seed}/{split}/{index}/{purpose}")

    rng = stream("mood")
    mood = clip_to_range(rng.gauss(0, MOOD_SD))
    expression = clip_to_range(mood + rng.gauss(0, PICTURE_NOISE))
    asked = clip_to_range(mood + rng.gauss(0, MESSAGE_NOISE))
    tone = clip_to_range(mood + rng.gauss(0, VOICE_NOISE))
    names = NEW_NAMES if split == "test" and index % 10 == 0 else NAMES
    message, sentiment = message_for(asked, stream("message"), names)

    rng = stream("picture")
    pairs = [(colour, thing) for colour in COLOURS for thing in OBJECTS]
    if combinations != "all":
        pairs = [pair for pair in pairs if (pair in UNSEEN) == (combinations == "unseen")]
    colour, thing = rng.choice(pairs)
    relation, weather = rng.choice(list(RELATIONS)), rng.choice(list(WEATHERS))
    side = rng.choice(("left", "right"))
    square, extra = rng.randrange(66, 97), rng.randrange(0, 41)
    width, height = (square + extra, square) if rng.random() < 0.8 else (square, square + extra)
    drawn = (expression, colour, thing, relation, weather)
    return Card(
        name=f"{split}_{index:04d}",
        split=split,
        seen=(colour, thing) not in UNSEEN,
        mood=mood,
        expression=expression,
        sentiment=sentiment,
        tone=tone,
        colour=colour,
        object=thing,
        relation=relation,
        weather=weather,
        side=side,
        width=width,
        height=height,
        face_x=round(rng.uniform(-0.03, 0.03), 3),
        face_y=round(rng.uniform(-0.04, 0.04), 3),
        face_radius=round(rng.uniform(0.225, 0.265), 3),
        message=message,
        caption=caption_en(*drawn),
        caption_zh=caption_zh(*drawn),
    )


def with_voice(card: Card, seed: int) -> Card:
    """Gives a card one of the voices; test cards get voices that training never heard."""
    voices = HELD_OUT_VOICES if card.split == "test" else VOICES
    return replace(card, voice=random.Random(f"{seed}/{card.name}/voice").choice(voices))


def with_clip(card: Card, seed: int) -> Card:
    """Gives a card a clip in which one thing changes, between its frames clip_from and clip_until.

    clip_expression and clip_x, what the first frame shows, are drawn anew, in the same way whatever
    changes. Every film is as likely as the same film played backwards. So a single frame tells as
    little as possible: not what changes, and hardly into what.
    """
    rng = random.Random(f"{seed}/{card.name}/clip")
    change = rng.choice(CHANGES)
    if change == "mood":
        to = rng.choice(DIRECTIONS["mood"])
    elif change == "weather":
        to = rng.choice([weather for weather in WEATHERS if weather != card.weather])
    else:
        to = rng.choice(DIRECTIONS["place"])
    span = rng.choice(CLIP_SPANS)
    start = rng.randrange(CLIP_FRAMES - span)
    return replace(
        card,
        change=change,
        change_to=to,
        summary=summary_of(card.colour, card.weather, change, to),
        clip_expression=_clip_start("mood", to, rng),
        clip_x=_clip_start("place", to, rng),
        clip_from=start,
        clip_until=start + span,
        clip_light=rng.randrange(2),
    )


def clip_direction(to: str) -> int:
    """1 for what grows ("happier", "right"), -1 for what shrinks, 0 for a weather."""
    return {"happier": 1, "right": 1, "sadder": -1, "left": -1}.get(to, 0)


def _clip_start(change: str, to: str, rng: random.Random) -> float:
    """A first value from which a step towards `to` stays in the range.

    If something else changes, it is drawn as if this were to change one way or the other.
    """
    way = rng.choice(DIRECTIONS[change])
    direction = clip_direction(to if to in DIRECTIONS[change] else way)
    half = CLIP_STEP[change] / 2
    middle = rng.uniform(half - CLIP_RANGE[change], CLIP_RANGE[change] - half)
    return round(middle - direction * half, 4)


def draw(n: int, seed: int, combinations: str = "all") -> list[Card]:
    """Draws n fresh cards (factors and texts). `picture(card)` then paints one.

    Raises ValueError when n is not positive or `combinations` is not "all", "seen" or "unseen".
    """
    if n < 1:
        raise ValueError(f"Cannot draw {n} postcards: ask for at least one.")
    if combinations not in ("all", "seen", "unseen"):
        raise ValueError(f'Unknown combinations {combinations!r}: use "all", "seen" or "unseen".')
    return [sample_card(seed, index, "fresh", combinations) for index in range(n)]


def course_cards() -> list[Card]:
    """The cards of the committed data set, in order: train, val, test."""
    cards = []
    for split, size in SPLITS.items():
        for index in range(size):
            unseen = split == "test" and index % 7 < 3
            card = sample_card(SEED, index, split, "unseen" if unseen else "seen")
            if index < VOICED[split]:
                card = with_voice(card, SEED)
            if index < FILMED[split]:
                card = with_clip(card, SEED)
            cards.append(card)
    return cards


def things_shown(card: Card) -> dict[str, str]:
    """One word for each thing that a picture shows: its "colour", "object", "weather" and, where
    it has one, its "mood". Lesson 09."""
    words = {
        "colour": card.colour,
        "object": OBJECTS[card.object][0].split()[-1],
        "weather": WEATHERS[card.weather][0].split()[-1],
        "mood": mood_word(card.expression),
    }
    return {kind: word for kind, word in words.items() if word}


def note(card: Card) -> str:
    """A note about a card: a number and a name, which no picture shows, and two of the things that
    its picture shows, drawn by chance.

    "seven for mei hat and rain". A third of all pairs (number, name) is kept from the training
    cards and is all that the others have, so that no other card's note is, word for word, one of
    training's. Lesson 09.
    """
    rng = random.Random(f"{SEED}/{card.name}/{card.message}/note")
    pairs = [
        (number, name)
        for i, number in enumerate(NUMBERS)
        for j, name in enumerate(NAMES)
        if ((i + j) % 3 > 0) == (card.split == "train")
    ]
    number, name = rng.choice(pairs)
    first, second = rng.sample(list(things_shown(card).values()), 2)
    return f"{number} for {name} {first} and {second}".lower()
