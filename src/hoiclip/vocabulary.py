"""Vocabularies: verbs, objects, interactions, and the sentences made of them.

    HoiVocabulary.from_name("hico_rf_uc")              # a published label space
    HoiVocabulary.from_yaml("circus.yaml")             # your own
    HoiVocabulary.from_words("ride unicycle, hold umbrella")

A vocabulary is plain data: names, their valid (verb, object) pairs, the sentences CLIP reads for
them, and which interactions count as rare or were kept unseen in training.  The published label
spaces lie in ``assets/`` as tables.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hoiclip.errors import HoiError
from hoiclip.files import ASSETS, read_text, write_text_atomic
from hoiclip.hub import local_folder
from hoiclip.words import PREPOSITIONS, identifier, likely_slips, split_phrase, split_words

VOCABULARY_FILE = "vocabulary.json"
NOTHING = "nothing"
NO_INTERACTION = "no_interaction"
SPLITS = ("rf_uc", "nf_uc", "uo", "uv", "uc0", "uc1", "uc2", "uc3", "uc4")


@dataclass(frozen=True)
class HoiVocabulary:
    """Verbs, objects and the interactions (verb, object) between a person and an object.

    Attributes:
        name: how results and error messages call it.
        verbs: V verb names, ``"sit_on"``.
        gerunds: V gerunds as sentences use them, ``"sitting on"``; ``"and"`` for no interaction.
        objects: C object names, ``"hot_dog"``.  V-COCO's last one is ``"nothing"``.
        articles: C articles, ``"a"``, ``"an"`` or ``""``.
        interactions: K pairs (verb id, object id).
        rare: interactions with fewer than 10 training instances.
        unseen: interactions held out of training (zero-shot settings).
        object_template: sentence for an object class, ``{}`` stands for article and name.
        category_ids: C ids the dataset's files use for the objects (COCO-91), or empty.
    """

    name: str
    verbs: tuple[str, ...]
    gerunds: tuple[str, ...]
    objects: tuple[str, ...]
    articles: tuple[str, ...]
    interactions: tuple[tuple[int, int], ...]
    rare: frozenset[int] = frozenset()
    unseen: frozenset[int] = frozenset()
    object_template: str = "a photo of {}"
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.interactions:
            raise HoiError(f"vocabulary {self.name!r} has no interaction: name at least one verb-object pair")
        if len(self.gerunds) != len(self.verbs) or len(self.articles) != len(self.objects):
            raise HoiError(f"vocabulary {self.name!r}: every verb needs a gerund and every object an article")
        if not all(isinstance(n, str) for n in (*self.verbs, *self.gerunds, *self.objects, *self.articles)):
            raise HoiError(f"vocabulary {self.name!r}: every verb, gerund, object and article must be a word")
        if any(abs(i) > 2**31 for i in self.category_ids):
            raise HoiError(f"vocabulary {self.name!r}: a category id is beyond every number that files use")
        for what, names in (("verb", self.verbs), ("object", self.objects), ("interaction", self.interactions)):
            if len(set(names)) != len(names):
                twice = next(n for n in names if list(names).count(n) > 1)
                raise HoiError(f"vocabulary {self.name!r} names the {what} {twice!r} twice: remove one of them")
        for verb, obj in self.interactions:
            if not (0 <= verb < len(self.verbs) and 0 <= obj < len(self.objects)):
                raise HoiError(f"vocabulary {self.name!r}: interaction ({verb}, {obj}) points outside verbs or objects")
        outside = [k for k in self.rare | self.unseen if not 0 <= k < len(self.interactions)]
        if outside:
            raise HoiError(f"vocabulary {self.name!r}: rare or unseen interaction {outside[0]} does not exist")

    # --- where vocabularies come from -------------------------------------------------------------

    @classmethod
    def from_name(cls, name: str) -> HoiVocabulary:
        """A published label space: ``hico``, ``vcoco``, ``playground``, or a zero-shot split of one
        of them such as ``hico_rf_uc`` (suffixes ``rf_uc nf_uc uo uv`` and HICO-DET's ``uc0``-``uc4``).
        ``playground`` itself keeps eight interactions unseen.

        Raises:
            HoiError: if no such vocabulary exists; the message lists those that do.
        """
        base, _, split = name.partition("_")
        known = vocabulary_names()
        if name not in known:
            raise HoiError(f"unknown vocabulary {name!r}: choose one of {', '.join(known)}, or give a YAML file")
        vocabulary = _published(base)
        if not split:
            return vocabulary
        return replace(vocabulary, name=name, unseen=frozenset(_splits(base)[split]))

    @classmethod
    def from_yaml(cls, path: str | Path) -> HoiVocabulary:
        """A vocabulary of your own from a short YAML file.

            verbs: [ride, sit_on, {juggle: juggling with}]   # a gerund may be given
            objects: [unicycle, ball]
            pairs: all                                       # or [ride unicycle, juggle ball]
            unseen: [juggle ball]                            # optional
            rare: []                                         # optional

        Raises:
            HoiError: unreadable file, or a key, verb or object that does not fit.
        """
        path = Path(path)
        text = read_text(path, "an existing vocabulary file")
        try:
            # every plain word stays a word: on, off, yes, no, dates and numbers too
            data = yaml.load(text, Loader=yaml.BaseLoader)
        except RecursionError as error:
            raise HoiError(f"{path}: lists are nested too deeply; see the guide for a vocabulary file") from error
        except (yaml.YAMLError, ValueError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise HoiError(f"{path}: line {line} is not valid YAML; see the guide for a vocabulary file") from error
        try:
            return cls._from_yaml_data(data, path.stem)
        except HoiError as error:
            raise HoiError(f"{path}: {error}") from error
        except (TypeError, ValueError, StopIteration, RecursionError) as error:
            raise HoiError(
                f"{path}: an entry is empty or of the wrong kind; see the guide for a vocabulary file"
            ) from error

    @classmethod
    def _from_yaml_data(cls, data: Any, name: str) -> HoiVocabulary:
        if not isinstance(data, dict) or "verbs" not in data or "objects" not in data:
            raise HoiError("a vocabulary file needs the keys 'verbs' and 'objects'")
        unknown = set(data) - {"name", "verbs", "objects", "pairs", "rare", "unseen", "category_ids"}
        if unknown:
            raise HoiError(f"unknown key {sorted(unknown)[0]!r}; allowed are name, verbs, objects, pairs, rare, unseen")
        for key in ("verbs", "objects"):
            if not isinstance(data[key], list) or not data[key]:
                raise HoiError(f"'{key}' must be a non-empty list of names")
        verbs, gerunds = [], []
        for entry in data["verbs"]:
            verb, given = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
            verbs.append(identifier(verb))
            if isinstance(given, (dict, list)):
                raise HoiError(f"the gerund of {verbs[-1]!r} must be words, as in {{juggle: juggling with}}")
            gerunds.append(given if given not in (None, "", "null", "~") else gerund(verbs[-1]))
        objects = [identifier(o) for o in data["objects"]]

        def pair(entry: Any) -> tuple[int, int]:
            if not isinstance(entry, str) and not (isinstance(entry, list) and all(isinstance(n, str) for n in entry)):
                raise HoiError("a pair must be words, as in ride unicycle")
            names = entry if isinstance(entry, list) else split_phrase(entry, verbs, objects)
            try:
                return verbs.index(identifier(names[0])), objects.index(identifier(names[1]))
            except (ValueError, IndexError):
                raise HoiError(f"the pair {str(entry)[:100]!r} is not one of the listed verbs and objects") from None

        wanted = data.get("pairs", "all")
        if wanted == "all":
            interactions = [(v, o) for o in range(len(objects)) for v in range(len(verbs))]
        elif isinstance(wanted, list):
            interactions = [pair(entry) for entry in wanted]
        else:
            raise HoiError("'pairs' must be the word all or a list such as [ride unicycle]")
        parts: dict[str, Any] = {}
        for key in ("rare", "unseen"):
            try:
                parts[key] = frozenset(interactions.index(pair(entry)) for entry in _list(data, key))
            except ValueError:
                raise HoiError(f"'{key}' names a pair which 'pairs' does not contain") from None
        return cls(
            name=data["name"] if data.get("name") and isinstance(data["name"], str) else name,
            verbs=tuple(verbs),
            gerunds=tuple(gerunds),
            objects=tuple(objects),
            articles=tuple(article(o) for o in objects),
            interactions=tuple(interactions),
            category_ids=tuple(int(i) for i in _list(data, "category_ids")),
            **parts,
        )

    @classmethod
    def from_words(cls, words: str, name: str = "custom") -> HoiVocabulary:
        """Parse a vocabulary from words such as ``"ride unicycle, sit on bench"``.

        Commas, semicolons and lines separate interactions; upper and lower case agree.

        The verb is a known one where possible (``sit on``), else the first word and a preposition
        that follows it; the rest is the object.

        Raises:
            HoiError: if a part has no object.
        """
        phrases = [part for part in split_words(words) if part]
        pairs = list(dict.fromkeys(split_phrase(phrase, _known_verbs(), ()) for phrase in phrases))
        verbs = list(dict.fromkeys(v for v, _ in pairs))
        objects = list(dict.fromkeys(o for _, o in pairs))
        return cls(
            name=name,
            verbs=tuple(verbs),
            gerunds=tuple(gerund(v) for v in verbs),
            objects=tuple(objects),
            articles=tuple(article(o) for o in objects),
            interactions=tuple((verbs.index(v), objects.index(o)) for v, o in pairs),
        )

    @classmethod
    def coerce(cls, vocabulary: HoiVocabulary | str | Path) -> HoiVocabulary:
        """A vocabulary from itself, a published name, or the path of a YAML file."""
        if isinstance(vocabulary, HoiVocabulary):
            return vocabulary
        if str(vocabulary).endswith((".yaml", ".yml")):
            return cls.from_yaml(vocabulary)
        return cls.from_name(str(vocabulary))

    def with_verbs(self, verbs: Iterable[str]) -> HoiVocabulary:
        """Only these verbs, each with every object; verbs it does not know yet are added, case does not matter.

        Objects are those of the vocabulary that are one ("nothing" is left out).
        """
        names = tuple(dict.fromkeys(identifier(verb) for verb in verbs))
        known = dict(zip(self.verbs, self.gerunds, strict=True))
        return replace(
            self,
            name="custom",
            verbs=names,
            gerunds=tuple(known.get(verb) or gerund(verb) for verb in names),
            interactions=tuple(
                (v, o) for o, name in enumerate(self.objects) if name != NOTHING for v in range(len(names))
            ),
            rare=frozenset(),
            unseen=frozenset(),
        )

    def slips(self, known: HoiVocabulary) -> list[tuple[str, str]]:
        """Verbs and objects that ``known`` lacks but that look like a misspelt one of its own: (word, known word)."""
        pairs = likely_slips(self.verbs, known.verbs, _known_verbs())
        return pairs + likely_slips(self.objects, known.objects, _published("hico").objects)

    # --- saved beside the weights -----------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the inverse of :meth:`from_dict`."""
        return {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HoiVocabulary:
        """Raises HoiError if keys are missing or unknown."""
        tuples = {k: tuple(v) for k, v in data.items() if k not in ("name", "object_template")}
        try:
            return cls(
                **{
                    **data,
                    **tuples,
                    "interactions": tuple((int(v), int(o)) for v, o in data["interactions"]),
                    "rare": frozenset(data.get("rare", ())),
                    "unseen": frozenset(data.get("unseen", ())),
                }
            )
        except (TypeError, KeyError) as error:
            raise HoiError(f"this is not a saved vocabulary ({error}); save the model again") from error

    def save(self, folder: str | Path) -> None:
        """Write ``vocabulary.json`` into a model folder."""
        write_text_atomic(Path(folder) / VOCABULARY_FILE, json.dumps(self.to_dict()))

    @classmethod
    def from_pretrained(
        cls, source: str | Path, revision: str | None = None, token: str | None = None
    ) -> HoiVocabulary:
        """Read ``vocabulary.json`` of a model folder or hub id; ``revision`` and ``token`` belong to the latter.

        Raises:
            HoiError: if there is none or it cannot be understood.
        """
        folder = local_folder(source, revision, token, files=(VOCABULARY_FILE,))
        try:
            return cls.from_dict(json.loads((Path(folder) / VOCABULARY_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise HoiError(
                f"{source}: no readable {VOCABULARY_FILE} there; give a folder that hoiclip wrote"
            ) from error

    # --- sizes and index arrays -------------------------------------------------------------------

    @property
    def num_interactions(self) -> int:
        return len(self.interactions)

    @cached_property
    def verb_ids(self) -> np.ndarray:
        """(K,) int64, the verb of each interaction."""
        return np.array([v for v, _ in self.interactions], dtype=np.int64)

    @cached_property
    def object_ids(self) -> np.ndarray:
        """(K,) int64, the object of each interaction."""
        return np.array([o for _, o in self.interactions], dtype=np.int64)

    @cached_property
    def seen(self) -> np.ndarray:
        """(K - unseen,) int64, interactions that training may use, ascending."""
        return np.array([k for k in range(len(self.interactions)) if k not in self.unseen], dtype=np.int64)

    @cached_property
    def verb_to_interaction(self) -> np.ndarray:
        """(V, K) float32 of 0 and 1: which verb makes which interaction."""
        matrix = np.zeros((len(self.verbs), len(self.interactions)), dtype=np.float32)
        matrix[self.verb_ids, np.arange(len(self.interactions))] = 1
        return matrix

    @cached_property
    def person_id(self) -> int | None:
        """Object id of ``"person"``, None where people are no object class."""
        return self.objects.index("person") if "person" in self.objects else None

    # --- words ------------------------------------------------------------------------------------

    def interaction_name(self, hoi_id: int) -> str:
        """``"ride bicycle"``, for images and tables."""
        verb, obj = self.interactions[hoi_id]
        words = [re.sub(r"_(obj|instr)$", "", self.verbs[verb])]
        if self.objects[obj] != NOTHING:
            words.append(self.objects[obj])
        return " ".join(words).replace("_", " ")

    @cached_property
    def interaction_prompts(self) -> tuple[str, ...]:
        """K sentences "a photo of a person riding a bicycle" (paper section 3.4)."""
        return tuple(self._interaction_prompt(v, o) for v, o in self.interactions)

    def _interaction_prompt(self, verb: int, obj: int) -> str:
        phrase = self.gerunds[verb]
        if self.objects[obj] == NOTHING:
            last = phrase.split()[-1]
            return (
                f"a photo of a person {phrase} something" if last in PREPOSITIONS else f"a photo of a person {phrase}"
            )
        return f"a photo of a person {phrase} {self._noun(obj)}"

    @cached_property
    def object_prompts(self) -> tuple[str, ...]:
        """C + 1 sentences, the last one for the detector's background class."""
        nouns = [self._noun(o) for o in range(len(self.objects))]
        alone = self.object_template.replace("and {}", "only")  # V-COCO's class for "no object at all"
        prompts = [self.object_template.format(n) if n != NOTHING else alone.format(n) for n in nouns]
        return (*prompts, "a photo of nothing")

    @cached_property
    def verb_prompts(self) -> tuple[str, ...]:
        """V sentences without an object, one of the alternatives in paper Table 6."""
        return tuple("a photo of a person" if g == "and" else f"a photo of a person {g}" for g in self.gerunds)

    def _noun(self, obj: int) -> str:
        return " ".join(word for word in (self.articles[obj], self.objects[obj].replace("_", " ")) if word)


def vocabulary_names() -> list[str]:
    """All names :meth:`HoiVocabulary.from_name` knows."""
    bases = sorted(f.name[:-4] for f in ASSETS.iterdir() if f.name.endswith(".tsv") and "_" not in f.name)
    return [name for base in bases for name in (base, *(f"{base}_{split}" for split in _splits(base)))]


def gerund(verb: str) -> str:
    """``"sit_on"`` -> ``"sitting on"``: the published form where there is one, else by rule."""
    if verb == NO_INTERACTION:
        return "and"
    known = _known_gerunds().get(verb)
    if known:
        return known
    first, *rest = verb.split("_")
    if first.endswith("ie"):
        first = first[:-2] + "ying"
    elif first.endswith("e") and not first.endswith(("ee", "oe", "ye")):
        first = first[:-1] + "ing"
    elif re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", first):
        first += first[-1] + "ing"
    else:
        first += "ing"
    return " ".join([first, *rest])


def article(noun: str) -> str:
    """``"a"`` or ``"an"`` by the first letter; ``""`` for nothing."""
    if noun == NOTHING:
        return ""
    return "an" if noun[0].lower() in "aeiou" and not noun.startswith(("uni", "use", "eu")) else "a"


def _list(data: dict[str, Any], key: str) -> list[Any]:
    """An optional list of a vocabulary file; null and nothing are empty."""
    found = data.get(key)
    if found in (None, "", "null", "~"):
        return []
    if not isinstance(found, list):
        raise HoiError(f"'{key}' must be a list")
    return found


def _table(name: str) -> list[dict[str, str]]:
    with (ASSETS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@lru_cache
def _splits(base: str) -> dict[str, list[int]]:
    file = ASSETS / f"{base}_splits.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@lru_cache
def _published(base: str) -> HoiVocabulary:
    rows, objects = _table(f"{base}.tsv"), _table(f"{base}_objects.tsv")
    verbs = {int(row["verb_index"]): (row["verb"], row["gerund"]) for row in rows}
    verbs = {i: (verb, "and" if verb == NO_INTERACTION else words) for i, (verb, words) in sorted(verbs.items())}
    return HoiVocabulary(
        name=base,
        verbs=tuple(verb for verb, _ in verbs.values()),
        gerunds=tuple(words for _, words in verbs.values()),
        objects=tuple(row["name"] for row in objects),
        articles=tuple(row["article"] for row in objects),
        interactions=tuple((int(row["verb_index"]), int(row["object_index"])) for row in rows),
        rare=frozenset(int(row["hoi_id"]) for row in rows if row["rare"] == "1"),
        unseen=frozenset(int(row["hoi_id"]) for row in rows if row.get("unseen") == "1"),
        object_template="a photo of a person and {}" if base == "vcoco" else "a photo of {}",
        category_ids=tuple(int(row["category_id"]) for row in objects if row["category_id"]),
    )


@lru_cache
def _known_gerunds() -> dict[str, str]:
    return dict(zip(_published("hico").verbs, _published("hico").gerunds, strict=True))


@lru_cache
def _known_verbs() -> frozenset[str]:
    return frozenset(_known_gerunds())
