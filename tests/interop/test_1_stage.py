"""That the stage stands before Homeward enters: the website, nginx, TLS, the browser."""

from conftest import ALICE, Addresses
from visitor import Visitor
from website import Website


def test_alice_signs_in_at_alpha_with_her_password(alpha_site: Website, addresses: Addresses, visitor: Visitor) -> None:
    visitor.opens(f"{addresses.alpha.url}/accounts/login/", title="Sign In")
    visitor.fills_in({"Username": ALICE.username, "Password": ALICE.password})
    visitor.clicks("Sign In")
    visitor.sees("Welcome")
    visitor.reads("#who", "alice")


def test_beta_has_no_provider_before_its_agent_comes(
    beta_site: Website, addresses: Addresses, visitor: Visitor
) -> None:
    visitor.opens(f"{addresses.beta.url}/accounts/login/", title="Sign In")
    assert visitor.page.get_by_role("link", name="Homeward").count() == 0
    assert beta_site.rows("SELECT username FROM auth_user") == []
