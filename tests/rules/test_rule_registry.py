import pytest

from nplearn.errors import SettingError
from nplearn.rules import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    Frozen,
    ProductFeedbackAlignment,
    Rule,
    Shuffled,
    UniformSignConcordant,
    registry,
)
from nplearn.testing.rules import check_rule
from nplearn.testing.trial import dense_net
from tests.homes import nets_of


class Mine(Rule):
    def __init__(self, strength=1.0):
        super().__init__()
        self.strength = strength

    claims = Backprop.claims


class Entry:
    """What importlib.metadata hands out."""

    def __init__(self, name, target):
        self.name, self.target = name, target

    def load(self):
        return self.target


@pytest.fixture
def installed(monkeypatch):
    def entry_points(*, group):
        assert group == "nplearn.rules"
        return [Entry("mine", Mine), Entry("made", lambda: UniformSignConcordant(1)), Entry("fa", Mine)]
    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_the_names_are_these_and_controls_come_last_when_asked_for():
    ours = "backprop fa dfa drtp sdfa ifa usf brsf frsf kp pfa pfa-o wm ia sa aa ptf rf rf-sleep rf-exact ndi di sdi " \
           "tp dtp sdtp ao-sdtp fw-dtp l-drl drl ddtp gait pc pc-fa pc-kp pc-rf fpa zil ep pred sim predsim pepita " \
           "ff np forward-gradient burst gevb"
    assert registry.names() == ours.split() == list(registry.RULES)
    assert registry.names(controls=True)[-2:] == ["frozen", "shuffled"] and "frozen" not in registry.names()


@pytest.mark.parametrize("name", [*registry.RULES, *registry.CONTROLS])
def test_every_name_makes_a_new_rule_that_says_what_it_is(name):
    rule = registry.make(name)
    assert isinstance(rule, Rule) and rule is not registry.make(name)
    assert all([rule.idea, rule.paper, rule.keeps, rule.learns_when]) and rule.claims


@pytest.mark.parametrize("name", registry.names(controls=True))
def test_a_rule_says_whether_its_feedback_learns(name):
    build = next(iter(nets_of(name).values()))
    rule = registry.make(name).attach(build(0), 0)
    assert rule.learned == (rule.state is not None)


def test_options_stand_after_a_colon_with_their_own_types():
    rule = registry.make(" pfa:expand=5, density=0.3 ,path=direct,")
    assert (rule.expand, rule.density, rule.path, rule.lift) == (5, 0.3, "direct", "random")
    assert registry.make("dfa:form=biotorch").form == "biotorch"
    assert registry.make('usf:scale="sign-symmetry"').scale == registry.make("usf:scale=sign-symmetry").scale
    assert registry.make("fa:scale=-1e-3").scale == -1e-3


def test_a_short_name_may_have_options_of_its_own_which_the_text_can_change():
    rule = registry.make("pfa-o")
    assert isinstance(rule, ProductFeedbackAlignment) and (rule.expand, rule.lift) == (1, "orthogonal")
    assert registry.make("pfa-o:expand=2").expand == 2 and registry.make("pfa-o").expand == 1


@pytest.mark.parametrize("text, says", [
    ("fb", "rule: 'fb'; expected one of backprop, fa, dfa, .*shuffled"), ("", "rule: ''; expected one of"),
    ("PFA_o", "rule: 'PFA_o'; .*; did you mean pfa-o"), ("fa:scale", "rule fa: option 'scale'; expected key=value"),
    ("fa:size=3", "rule fa: options 'size=3' .*; expected its options scale=1.0; see python -m nplearn rules fa"),
    ("dfa:form=other", "DirectFeedbackAlignment: form 'other'; expected author or biotorch"),
    ("usf:scale=big", "UniformSignConcordant: scale 'big'")])
def test_what_does_not_exist_is_refused_in_words(text, says):
    with pytest.raises(SettingError, match=says):
        registry.make(text)


def test_a_rule_of_another_package_is_found_by_its_name(installed):
    assert registry.names(controls=True)[len(registry.RULES):] == ["mine", "made", "frozen", "shuffled"]
    assert isinstance(registry.make("mine:strength=2"), Mine) and registry.make("mine:strength=2").strength == 2
    assert registry.make("made").scale == 1
    with pytest.raises(SettingError, match="one of backprop, .*mine, made, frozen"):
        registry.make("other")


def test_it_does_not_take_the_place_of_one_of_ours(installed):
    assert isinstance(registry.make("fa"), FeedbackAlignment)


def test_it_can_be_held_to_the_contract(installed):
    assert check_rule(lambda: registry.make("mine"), {"dense": dense_net}, seeds=[0]).count == 15


def test_classes_and_names_agree():
    assert [type(registry.make(name)) for name in ("backprop", "fa", "dfa", "frozen", "shuffled")] == [
        Backprop, FeedbackAlignment, DirectFeedbackAlignment, Frozen, Shuffled]
