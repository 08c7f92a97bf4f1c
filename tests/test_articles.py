"""Articles: what is spelled out, numbers, silent h, vowels that sound as "you"."""

import pytest

from dft_lib.study import lexicon
from dft_lib.study.articles import article

RIGHT = """
a pilot | a urologist | an HR manager | an X-ray technician | an MRI technician | a
university lecturer | an IT specialist | an honest judge | a UX designer | an NGO worker |
an heir | an hourly worker | a euro | a one-armed man | an SQL developer | an FBI agent | a
historian | an honorary consul | an unidentified person | an uninsured driver | an
8-year-old | an 11th | an 18-wheeler driver | a 100-year-old | an 80-year-old | a
110-year-old | an 1890s cowboy | a 3D artist | an F1 driver | a K9 handler | an R&D engineer
| a Ph.D. student | an MSc student | an MBA | an iOS developer | a NASA engineer | a UNESCO
envoy | a U.S. marshal | an L.A. cop | a unanimous jury | an unarmed guard | a unicyclist |
a union rep | an unimpressed critic | a unimodal model | an usher | a user | a Uyghur | a
Ukrainian | a Ugandan | an ugly man | an umpire | an uncle | an undertaker | an upholsterer
| an urban planner | a uranium miner | an urchin | a utility worker | an utter fool | a Utah
farmer | an onerous job | a once-famous singer | a European | a ewe | an Yvonne | a yoga
teacher | a young man | an e-commerce manager | a T-shirt printer | a t-shirt seller | an
A-list actor | a U-boat captain | an x-ray technician | an hr manager | an rn | a Mr Bean |
a Hmong man | an O'Brien | a L'Oréal consultant | an écrivain | an über-fan | a D'Artagnan |
an mRNA scientist | a NURSE | an ARTIST | a FIREFIGHTER | an LGBTQ activist | an AI
researcher | an NHS nurse | a BBC reporter | a CEO | a PhD student | a DJ | an MC | an EU
official | a UN envoy | a UK judge | an EMT | an OB-GYN | an ER nurse | an "honest" judge |
a home inspector | a housekeeper | a hotel clerk | a 1-armed man | an 8th grader | an
85-year-old | a 25-year-old | an 11-year-old | a 1,800-metre runner | an 800 m runner | an
11,000 m race | a 1000-year-old | an hour | an heiress | an honor guard | a honcho | a
one-off | an only child | an oncologist | an ophthalmologist | an oud player | a ufologist |
a ukulele player | an ulcer specialist | an Uzbek | a uniform | an unissued x | a unisex
barber | an Inuit man | a Yoruba man | an ytterbium x
"""


@pytest.mark.parametrize("phrase", [" ".join(part.split()) for part in RIGHT.split("|")])
def test_articles(phrase):
    assert article(phrase.split(" ", 1)[1]) == phrase


@pytest.mark.parametrize("folder", ["lexicon", "lexicon_photos"])
def test_the_nouns_of_the_study_keep_their_articles(folder):
    """They begin with plain vowels and consonants, but for these."""
    words = lexicon.load(folder)
    nouns = [*words.professions["profession"], *words.people["noun"], *words.general["noun"]]
    odd = [a for n in nouns if ((a := article(n)).split()[0] == "an") != (n[0].lower() in "aeiou")]
    assert odd == ([] if folder == "lexicon" else ["a university professor"])
