from pathlib import Path

import pytest
from tests.unit.cloud.fakes import KEY, LOST, REFUSED_CONNECTION, Fake, FakeRunPod, FakeVast, Fault

from heretic.cloud.machines import Order, State, Wish
from heretic.cloud.provider import PROVIDERS, AnswerLost, NoSuchMachine, OfferGone, Provider, TooManyRequests
from heretic.cloud.tiers import TIERS
from heretic.common.errors import CloudError, ConfigurationError

TIER, WISH = TIERS["RTX_4090"], Wish("RTX_4090", 1, 100)
ORDER = Order("one", "image:tag", 100, "ssh-ed25519 AAAA x", (("HF_HOME", "/workspace/hub"),))


@pytest.fixture
def provider(fake: Fake, kind: str) -> Provider:
    variables = {"VAST_API_KEY": KEY, "RUNPOD_API_KEY": KEY}
    variables |= {"VAST_URL": fake.address, "RUNPOD_URL": f"{fake.address}/v2"}
    return PROVIDERS.get(kind).open(variables, Path.cwd())


def test_a_machine_from_offer_to_end(provider: Provider, fake: Fake, kind: str) -> None:
    offers = provider.offers(TIER, WISH)
    assert [round(offer.price, 2) for offer in offers[:2]] == ([0.71, 0.72] if kind == "vast" else [0.34, 0.69])
    machine_id = provider.rent(offers[0], ORDER)
    provider.attach_key(machine_id, ORDER.public_key)
    (machine,) = provider.machines()
    assert (machine.id, machine.name, machine.state, machine.endpoint) == (machine_id, "one", State.LOADING, None)
    machine = provider.machines()[0]
    assert machine.state is State.RUNNING
    assert machine.endpoint is not None
    assert machine.endpoint.host == "127.0.0.1"
    assert machine.price == offers[0].price
    assert machine.disk == 100
    assert machine.cost(machine.started + 7200 if machine.started else 0) == pytest.approx(2 * machine.price)
    provider.stop(machine)
    stopped = provider.machine(machine_id)
    assert stopped is not None
    assert (stopped.state, stopped.endpoint) == (State.STOPPED, None)
    provider.start(machine)
    provider.destroy(machine_id)
    assert provider.machine(machine_id) is None
    assert provider.machines() == []
    with pytest.raises(NoSuchMachine):
        provider.destroy(machine_id)
    assert provider.balance() == (12.5 if kind == "vast" else None)


def test_all_pages_are_read_and_other_peoples_machines_are_not_ours(provider: Provider, fake: Fake) -> None:
    for number in range(60):
        if isinstance(fake, FakeVast):
            fake.offers.append({**fake.offers[0], "id": 600 + number})
        offer = provider.offers(TIER, WISH)[-1]
        provider.rent(offer, Order(f"n{number}", "i", 100, "ssh-ed25519 AAAA x"))
    for name, machine in list(fake.machines.items())[::2]:
        machine["label" if isinstance(fake, FakeVast) else "name"] = "theirs"
        assert provider.machine(name) is None
    assert len(provider.machines()) == 30


@pytest.mark.parametrize("kind", ["vast"], indirect=False)
def test_both_sizes_of_an_a100_are_told_apart(provider: Provider, fake: FakeVast) -> None:
    sizes = {701: 40_960, 702: 81_920, 703: 81_559}
    fake.offers = [{**fake.offers[0], "id": n, "gpu_name": "A100 SXM4", "gpu_ram": ram} for n, ram in sizes.items()]
    found = {name: {offer.id for offer in provider.offers(TIERS[name], WISH)} for name in ("A100_40GB", "A100_80GB")}
    assert found == {"A100_40GB": {"701"}, "A100_80GB": {"702", "703"}}
    assert provider.offers(TIERS["A100_80GB"], Wish("A100_80GB", 1, 600)) == []


def test_a_wrong_key_is_said_with_the_page_for_a_new_one(fake: Fake, kind: str, tmp_path: Path) -> None:
    what = PROVIDERS.get(kind)
    address = fake.address if kind == "vast" else f"{fake.address}/v2"
    wrong = what.open({what.key_variable: "wrong-key-12345", what.address_variable: address}, tmp_path)
    with pytest.raises(
        ConfigurationError, match=f"does not accept {what.key_variable}; make a new key at https://"
    ) as error:
        wrong.machines()
    assert "wrong-key-12345" not in str(error.value)


RENT = {"vast": "PUT /api/v0/asks/.*", "runpod": "POST /v2/pods"}
GONE = {"vast": (410, {"error": "no_such_ask"}), "runpod": (400, {"detail": "no longer any instances available"})}


def test_what_can_go_wrong_with_renting_is_told_apart(provider: Provider, fake: Fake, kind: str) -> None:
    offer = provider.offers(TIER, WISH)[0]
    faults: list[tuple[Fault, type[CloudError]]] = [
        (Fault(RENT[kind], *GONE[kind]), OfferGone),
        (Fault(RENT[kind], 429, "Too many requests", {"Retry-After": "7"}), TooManyRequests),
        (Fault(RENT[kind], 502, "<html>bad gateway</html>"), AnswerLost),
        (Fault(RENT[kind], 200, "cut off {"), AnswerLost),
        (Fault(RENT[kind], kind=REFUSED_CONNECTION), AnswerLost),
        (Fault(RENT[kind], kind=LOST), AnswerLost),
    ]
    for fault, error in faults:
        fake.faults = [fault]
        asked = len(fake.asked)
        with pytest.raises(CloudError) as raised:
            provider.rent(offer, ORDER)
        assert type(raised.value) is error
        # Never asked twice.
        assert len(fake.asked) == asked + 1
    # The last one was rented all the same.
    assert len(fake.machines) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (429, {"error": "search_quota_exceeded"}, "begins anew at midnight UTC"),
        (403, {"msg": "no permission"}, "make a key with more permissions"),
        (400, {"msg": "insufficient credit"}, "refused it (HTTP 400): insufficient credit."),
        (200, {"something": "else"}, "does not know"),
        (200, {"offers": [{"id": 1}]}, "does not know"),
    ],
)
@pytest.mark.parametrize("kind", ["vast"], indirect=False)
def test_what_vast_refuses(provider: Provider, fake: FakeVast, status: int, body: object, words: str) -> None:
    fake.faults = [Fault("POST /api/v0/bundles/", status, body)] * 3
    with pytest.raises((CloudError, ConfigurationError)) as error:
        provider.offers(TIER, WISH)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (402, {"detail": "insufficient funds"}, "wants money first (insufficient funds)"),
        (403, {"detail": "scope"}, "make a key with more permissions"),
        (410, "Gone", "switched this version of its API off"),
        (422, {"title": "Unprocessable", "detail": "count is invalid"}, "refused it (HTTP 422): count is invalid."),
        (200, [], "does not know"),
        (302, "", "refused it (HTTP 302)"),
    ],
)
@pytest.mark.parametrize("kind", ["runpod"], indirect=False)
def test_what_runpod_refuses(provider: Provider, fake: FakeRunPod, status: int, body: object, words: str) -> None:
    fake.faults = [Fault("GET /v2/catalog/gpus", status, body)]
    with pytest.raises((CloudError, ConfigurationError)) as error:
        provider.offers(TIER, WISH)
    assert words in str(error.value)


@pytest.mark.parametrize("machine_id", ["1;2", "../users", "", "9000/", "\uff19"])
def test_no_id_becomes_another_address(provider: Provider, fake: Fake, machine_id: str) -> None:
    with pytest.raises(ConfigurationError):
        provider.destroy(machine_id)
    assert fake.asked == []


@pytest.mark.parametrize("said", ["dreaming", None, "loading", "frozen"])
@pytest.mark.parametrize("kind", ["vast"], indirect=False)
def test_a_machine_that_has_not_begun_can_be_read(provider: Provider, fake: FakeVast, said: str | None) -> None:
    machine_id = provider.rent(provider.offers(TIER, WISH)[0], ORDER)
    fake.looks_until_running = 99
    fake.machines[machine_id] |= {"actual_status": said, "start_date": None, "ports": None, "extra_env": None}
    machine = provider.machine(machine_id)
    assert machine is not None
    assert machine.state is {"dreaming": State.UNKNOWN, "frozen": State.OFFLINE}.get(str(said), State.LOADING)
    assert provider.machines() == [machine]
