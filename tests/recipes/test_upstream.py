"""Homes without agent (U1): an OpenID provider that nobody here wrote, GitHub's dialect, Microsoft's issuer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import ThrowAwayAuthority
from federation import ALICE, Member, accepts, chooses, is_let_through, shown, who
from front import Front
from homeward import Broker
from person import Page, Person
from upstreams import GitHub, Microsoft, NodeProvider
from visitor import Visitor
from website import Account

CARLA = Account("carla", "any password", "", "Carla", "Cole")
CARLAS_CLAIMS = {
    "preferred_username": "carla",
    "name": "Carla Cole",
    "given_name": "Carla",
    "family_name": "Cole",
    "email_verified": True,
    "groups": ["engineers", "gossips"],
    "roles": [{"name": "operator"}],
}
GITHUB_PATHS = {
    "authorization-url": "/login/oauth/authorize",
    "token-url": "/login/oauth/access_token",
    "user-url": "/user",
}
# What a home without agent is called here, whose preset it uses, where its issuer is and how it signs.
PROVIDERS = {"authentik": ("/application/o/homeward/", "ES256"), "casdoor": ("", "RS256")}


@pytest.fixture(scope="module", params=list(PROVIDERS))
def provider(
    request: pytest.FixtureRequest, folder: Path, front: Front, broker: Broker, desk: Member
) -> Iterator[NodeProvider]:
    """One that the broker is a client of, and whose users may go to desk."""
    name = request.param
    path, algorithm = PROVIDERS[name]
    provider = NodeProvider(front.address(name), path, algorithm, callback(broker, name))
    # Addresses of their own at each: desk lets no two accounts have the same.
    provider.accounts["carla"] = CARLAS_CLAIMS | {"email": f"carla@{name}.example"}
    claims = CARLAS_CLAIMS | {"preferred_username": "admin", "email": f"admin@{name}.example"}
    provider.accounts |= {"admin": claims, "root": claims | {"preferred_username": "root", "owner": "app-built-in"}}
    provider.runs()
    front.start()
    adds(broker, folder, name, provider.client_secret, "--preset", name, *issued_by(provider))
    accepts(broker, "desk", name, "--email-domain", f"{name}.example", "--group", "engineers=Engineering")
    yield provider
    provider.stop()


def test_u1_carla_signs_in_with_her_account_there(provider: NodeProvider, desk: Member, visitor: Visitor) -> None:
    """Issuer with and without trailing slash, ES256 and RS256."""
    home = provider.public.name
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, TITLES[home])
    visitor.sees("Sign-in")
    visitor.page.get_by_placeholder("Enter any login").fill("carla")
    visitor.page.get_by_placeholder("and password").fill("anything")
    visitor.clicks("Sign-in")
    visitor.clicks("Continue")
    visitor.sees("Parts")
    visitor.reads("#who", f"carla@{home}")
    visitor.reads("#name", "Carla Cole")
    visitor.reads("#email", f"carla@{home}.example")


def test_u1_only_mapped_groups_arrive(provider: NodeProvider, desk: Member, authority: ThrowAwayAuthority) -> None:
    signs_in_from(provider, desk, authority)
    (data,) = desk.rows(
        "SELECT a.extra_data FROM socialaccount_socialaccount a JOIN auth_user u ON u.id = a.user_id"
        f" WHERE u.username = 'carla@{provider.public.name}'"
    )
    assert "Engineering" in data[0]
    assert "gossips" not in data[0], "what nobody mapped is nobody's business"


def test_u1_a_key_that_turned_and_kept_its_kid_is_fetched_again(
    provider: NodeProvider, desk: Member, authority: ThrowAwayAuthority
) -> None:
    signs_in_from(provider, desk, authority)
    provider.turns_key()
    signs_in_from(provider, desk, authority)


def test_u1_the_page_that_says_what_to_paste_where(provider: NodeProvider, broker: Broker, visitor: Visitor) -> None:
    name = provider.public.name
    visitor.opens(f"{broker.public.url}/upstream/{name}/setup", title="Set up")
    assert callback(broker, name) in visitor.page.content()
    assert provider.client_secret not in visitor.page.content()


def test_u1_a_provider_that_only_knows_hs256_is_refused(folder: Path, front: Front, broker: Broker) -> None:
    provider = NodeProvider(front.address("simple"), "/application/o/simple/", "HS256", callback(broker, "simple"))
    provider.keys = []
    provider.runs()
    front.start()
    options = ("--preset", "authentik", "--display-name", "Simple", *issued_by(provider))
    said = is_not_added(broker, folder, "simple", provider.client_secret, *options)
    assert "HS256" in said
    assert "signing key" in said.lower(), "says what to do next"
    provider.stop()


def test_u1_an_issuer_that_differs_by_a_slash_is_refused(folder: Path, front: Front, broker: Broker) -> None:
    provider = NodeProvider(front.address("slash"), "/application/o/slash/", "ES256", callback(broker, "slash"))
    provider.runs()
    front.start()
    issuer = ("--issuer", provider.issuer.removesuffix("/"), "--client-id", provider.client_id)
    said = is_not_added(broker, folder, "slash", provider.client_secret, "--preset", "oidc", *issuer)
    assert provider.issuer in said, "and says which one is right"
    provider.stop()


def test_u1_users_of_app_built_in_are_refused(
    provider: NodeProvider, broker: Broker, desk: Member, authority: ThrowAwayAuthority
) -> None:
    """Casdoor's own organisation: every user of it may do everything there, so nobody vouches for them."""
    name = provider.public.name
    admin, root = (Person(authority.file, Account(user, "x", "", "", ""), home=TITLES[name]) for user in ("admin", "root"))
    goes_to(desk, admin)
    assert who(admin.opens(f"{desk.public.url}/")) == f"admin@{name}", "it is not the name that decides"
    page = goes_to(desk, root)
    assert page.url.startswith(broker.public.url) and "another account" in page.text, "desk would say that she cancelled"
    assert who(root.opens(f"{desk.public.url}/")) == "nobody", str(page)


@pytest.fixture(scope="module")
def github(folder: Path, front: Front, broker: Broker, desk: Member) -> Iterator[GitHub]:
    github = GitHub(front.address("github"))
    front.start()
    # A GitHub of one's own: the preset knows the dialect, the operator where it is.
    where = [f"--{name}={github.public.url}{path}" for name, path in GITHUB_PATHS.items()]
    adds(broker, folder, "github", github.client_secret, "--preset", "github", "--client-id", github.client_id, *where)
    accepts(broker, "desk", "github", "--email-domain", "github.example")
    yield github
    github.stop()


def test_u1_github_has_no_id_token_and_still_says_who_it_is(github: GitHub, desk: Member, visitor: Visitor) -> None:
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "GitHub")
    visitor.sees("Authorize Homeward")
    visitor.clicks("Continue")
    visitor.sees("Parts")
    visitor.reads("#who", "octocat@github")
    visitor.reads("#email", "octocat@github.example")


@pytest.fixture(scope="module")
def microsoft(folder: Path, front: Front, broker: Broker, desk: Member) -> Iterator[Microsoft]:
    microsoft = Microsoft(front.address("microsoft"))
    front.start()
    where = ("--preset", "microsoft", "--issuer", microsoft.issuer, "--discovery-url", microsoft.discovery)
    adds(broker, folder, "microsoft", microsoft.client_secret, *where, "--client-id", microsoft.client_id)
    accepts(broker, "desk", "microsoft")
    yield microsoft
    microsoft.stop()


def test_u1_microsofts_issuer_has_the_tenant_of_each_token(
    microsoft: Microsoft, desk: Member, authority: ThrowAwayAuthority
) -> None:
    abe = Person(authority.file, ALICE, home="Microsoft")
    assert who(goes_to(desk, abe)).endswith("@microsoft")


def test_u1_a_token_of_another_tenant_than_its_issuer_is_refused(
    microsoft: Microsoft, desk: Member, authority: ThrowAwayAuthority
) -> None:
    microsoft.claimed_tenant = "11111111-1111-1111-1111-111111111111"
    abe = Person(authority.file, ALICE, home="Microsoft")
    goes_to(desk, abe)
    assert who(abe.opens(f"{desk.public.url}/")) == "nobody"


def test_u1_a_removed_home_lets_nobody_in_any_more(
    microsoft: Microsoft, broker: Broker, desk: Member, authority: ThrowAwayAuthority
) -> None:
    broker.says("upstream", "remove", "microsoft")
    nobody = Person(authority.file, ALICE, home="Microsoft")
    page = nobody.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/")
    assert not page.button("Microsoft")


# As the presets call them, on the page where people choose.
TITLES = {"authentik": "authentik", "casdoor": "Casdoor"}


def signs_in_from(provider: NodeProvider, desk: Member, authority: ThrowAwayAuthority) -> Page:
    carla = Person(authority.file, CARLA, home=TITLES[provider.public.name])
    page = is_let_through(carla, carla.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/"))
    assert shown(page, "email") == f"carla@{provider.public.name}.example"
    return page


def goes_to(desk: Member, person: Person) -> Page:
    """As far as it gets."""
    page = person.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/")
    for _ in range(6):
        if 'id="who"' in page.text or not re.search("<form", page.text) or page.status >= 400:
            break
        page = person.answers(page)
    return page


def adds(broker: Broker, folder: Path, name: str, secret: str, *options: str) -> None:
    broker.says("upstream", "add", name, "--client-secret-file", str(secret_file(folder, name, secret)), *options)


def is_not_added(broker: Broker, folder: Path, name: str, secret: str, *options: str) -> str:
    """Returns why not."""
    with pytest.raises(AssertionError) as refused:
        adds(broker, folder, name, secret, *options)
    return str(refused.value)


def secret_file(folder: Path, name: str, secret: str) -> Path:
    file = folder / f"{name}.secret"
    file.touch(0o600)
    file.write_text(f"{secret}\n")
    return file


def issued_by(provider: NodeProvider) -> tuple[str, ...]:
    return ("--issuer", provider.issuer, "--client-id", provider.client_id)


def callback(broker: Broker, name: str) -> str:
    return f"{broker.public.url}/upstream/{name}/callback"
