"""What the seeds ask of every federation, whatever the applications are (G1 to G8)."""

from federation import ALICE, Member, chooses, signs_in_at_home
from homeward import Agent, Broker
from person import Person
from visitor import Visitor


def test_g8_alice_comes_back_to_the_page_she_asked_for(desk: Member, visitor: Visitor) -> None:
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "Alpha")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Parts")
    assert visitor.page.url == f"{desk.public.url}/parts/"
    visitor.reads("#staff", "no staff")
