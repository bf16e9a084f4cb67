"""The playground: a page to try configurations and requests on, and the function behind it (see ask).

    ask.py         JSON in, JSON out: problems, decisions, and what of two configurations differs
    settings.py    what of the fleet's state a page can set, and the state that it means
    places.py      from places in a text to the stretch of it that is meant
    browser.py     the composition root in a browser, where there is no server
    page/          what a browser loads: HTML, CSS, JavaScript modules
"""

from sentinel.playground.ask import Misunderstood, ask

__all__ = ["Misunderstood", "ask"]
