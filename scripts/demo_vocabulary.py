"""Word lists of the demo corpus, kept apart from the code that combines them so that either can be read alone."""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Activity:
    """An ordinary thing to do: the objects it is done to, its steps in order, and what it needs."""

    verb: str
    gerund: str
    objects: tuple[str, ...]
    steps: tuple[str, ...]
    tools: tuple[str, ...]


def _activity(verb: str, gerund: str, objects: str, steps: str, tools: str) -> Activity:
    def split(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(","))

    return Activity(verb, gerund, split(objects), split(steps), split(tools))


ACTIVITIES: tuple[Activity, ...] = (
    _activity(
        "bake",
        "baking",
        "a cake, a pie, some bread, some cookies, a potato",
        "warm the oven, mix the flour and butter, fill the pan, wait until it is golden, let it cool",
        "an oven, a pan, some flour, some butter",
    ),
    _activity(
        "cook",
        "cooking",
        "some rice, a soup, some pasta, an egg, some beans",
        "fill the pot with water, bring it to a boil, add some salt, stir it slowly, taste it",
        "a pot, a spoon, some water, some salt",
    ),
    _activity(
        "wash",
        "washing",
        "a shirt, a car, a window, some dishes, a dog",
        "fill a bucket with water, add some soap, scrub it gently, rinse it well, dry it with a towel",
        "a bucket, some soap, a sponge, a towel",
    ),
    _activity(
        "paint",
        "painting",
        "a fence, a wall, a chair, a door, a box",
        "clean the surface, cover the floor, brush on a thin coat, let it dry, add a second coat",
        "a brush, some paint, an old sheet, a ladder",
    ),
    _activity(
        "plant",
        "planting",
        "a rose, a tree, some carrots, some tulips, a bush",
        "dig a small hole, loosen the soil, put the roots in, cover it with earth, water it well",
        "a shovel, some soil, some water, some gloves",
    ),
    _activity(
        "fold",
        "folding",
        "a letter, a shirt, a towel, a map, a blanket",
        "lay it flat, smooth it by hand, bring the corners together, press the edge, turn it over",
        "a flat table, clean hands, a little time",
    ),
    _activity(
        "draw",
        "drawing",
        "a cat, a house, a flower, a face, a boat",
        "start with a circle, add the main lines, draw the small parts, erase extra lines, shade it softly",
        "a pencil, some paper, an eraser",
    ),
    _activity(
        "build",
        "building",
        "a shelf, a table, a bird house, a bench, a small boat",
        "measure the wood, cut the boards, join the sides, drive in the nails, sand the edges",
        "a hammer, a saw, some nails, some wood",
    ),
    _activity(
        "repair",
        "repairing",
        "a bike, a lamp, a chair, a clock, a fence",
        "look for the broken part, take it apart, replace the part, tighten the screws, test it",
        "a wrench, some screws, some oil, a spare part",
    ),
    _activity(
        "sew",
        "sewing",
        "a button, a dress, a bag, a curtain, a pillow",
        "choose a strong thread, thread the needle, pin the cloth, make small stitches, tie a knot",
        "a needle, some thread, some cloth, some pins",
    ),
    _activity(
        "clean",
        "cleaning",
        "a kitchen, a carpet, a mirror, a desk, a garage",
        "open a window, move small things away, wipe off the dust, sweep the floor, take out the trash",
        "a cloth, a broom, some soap, a bucket",
    ),
    _activity(
        "make",
        "making",
        "a sandwich, a salad, some tea, some soup, some jam",
        "gather fresh food, wash your hands, cut it into pieces, put it all together, serve it on a plate",
        "a knife, a plate, a bowl, fresh food",
    ),
    _activity(
        "learn",
        "learning",
        "a song, a language, a dance, a poem, a game",
        "start with a small part, repeat it every day, ask a friend to listen, write down hard parts, enjoy it",
        "a notebook, a teacher, a quiet room",
    ),
    _activity(
        "train",
        "training",
        "a dog, a horse, a puppy, a parrot",
        "keep lessons short, use simple words, give a small treat, practice every day, praise good work",
        "some treats, a leash, a calm voice",
    ),
    _activity(
        "write",
        "writing",
        "a letter, a story, a poem, a report, a song",
        "choose a topic, list your ideas, write a first draft, read it aloud, fix the mistakes",
        "a pen, some paper, a dictionary",
    ),
    _activity(
        "grow",
        "growing",
        "some tomatoes, some herbs, a lemon tree, some beans, an onion",
        "choose a sunny spot, sow the seeds, water them often, pull the weeds, pick them when ripe",
        "some seeds, some soil, a pot, some water",
    ),
    _activity(
        "pack",
        "packing",
        "a suitcase, a lunch, a box, a backpack, a gift",
        "make a list, put heavy things at the bottom, roll the soft things, fill the gaps, close it tight",
        "a list, a bag, some tape, some paper",
    ),
    _activity(
        "polish",
        "polishing",
        "a shoe, a spoon, a ring, a table, a guitar",
        "wipe off the dust, put on a little wax, rub in small circles, wait five minutes, buff it with a cloth",
        "a soft cloth, some wax, a brush",
    ),
    _activity(
        "tune",
        "tuning",
        "a guitar, a piano, a violin, a radio",
        "listen to one note, turn the knob slowly, compare it with another note, check every string, play a song",
        "a good ear, a quiet room, a tuning fork",
    ),
    _activity(
        "decorate",
        "decorating",
        "a room, a cake, a tree, a table, a card",
        "choose two colors, hang some ribbons, add some flowers, step back and look, turn on the lights",
        "some ribbons, some flowers, some candles, a pair of scissors",
    ),
)

INVENTED_VERBS: tuple[str, ...] = _words(
    """zorble glimper frindle snorfle wuzzle trimble blenkify quorvel drumfle plindish grobble vintle skorfle
    mibberate yondle crinfle zaffle bromper flundle thrankle spolder jibbify nurgle prindle vorple gwindle
    klamber zindify twombel sprondle morfel chundify blorvish dringle fimble grontel yaffle krindle wumple
    zanter quindle shrubble plofter vandle trofty zibber glonk frozzle"""
)

INVENTED_NOUNS: tuple[str, ...] = _words(
    """flimp grobnik snaffer wibbet dromple quill-bot zandle plorf trunnet glorb mivvet sprocklet brellin yorp
    crindle fazzit nimble-wort skandle tworf vellop grimmet blonket zuffin drabbit pliver morklet jandle wozzit
    kreffin shoble lumpet frandle gizmet thrummel yabbet croft-bell plindel snorrel vaffet dwimple tofflet
    brinkle zemmit quoffin glandet spindrel moblet fluffet harple trindet yumbel kaffin drovel wisket plunder-pot
    vimmet grastle zoblet nuffin sworl"""
)

HELD_OUT_NOUNS: tuple[str, ...] = _words(
    """blimmet frosket gandril pluzzit snivvel tronket wamble-pot yindle zorrin drimlet quabbit morvel
    skuffin velmet crumblet flozzet jorpet kindrel thimmet brufflet"""
)

# Syllables of made-up nouns; those that could join into a real or a rude word are left out.
ONSETS: tuple[str, ...] = _words("b bl br d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu s sk sn sp st t tr v w y z")
VOWELS: tuple[str, ...] = ("a", "e", "i", "o", "u")
MIDDLES: tuple[str, ...] = _words("b bb d dd f ff l ll m mb mm mp nd nk r rb sk sp v z zz")
CODAS: tuple[str, ...] = _words("t n l r m p x st rt lk nt ld rn")

INVENTED_FIRST_STEPS: tuple[str, ...] = (
    "put {it} on a flat table",
    "warm {it} in your hands",
    "wash {it} in cold water",
    "hold {it} by the edge",
    "place {it} in a wooden bowl",
    "wrap {it} in a soft cloth",
    "shake {it} three times",
    "find a quiet place for {it}",
)
INVENTED_MIDDLE_STEPS: tuple[str, ...] = (
    "turn it slowly to the left",
    "press the middle with one finger",
    "rub it with a little oil",
    "tap it with a small spoon",
    "add some sand",
    "bend the soft end",
    "pull the two sides apart",
    "cover it with green leaves",
    "spin it for five minutes",
    "blow on it gently",
    "stretch it by hand",
    "count to ten",
)
INVENTED_LAST_STEPS: tuple[str, ...] = (
    "let it rest for ten minutes",
    "leave it in the sun",
    "hang it on a hook",
    "put it back in its box",
    "check that it hums",
    "let it cool",
    "tie it with a string",
    "show it to a friend",
)
INVENTED_TOOLS: tuple[str, ...] = (
    "a wooden bowl",
    "a small spoon",
    "a soft cloth",
    "some sand",
    "a string",
    "some oil",
    "a hook",
    "some green leaves",
    "a flat table",
    "a box",
)

CAPITALS: dict[str, str] = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Portugal": "Lisbon",
    "Ireland": "Dublin",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Peru": "Lima",
    "Canada": "Ottawa",
    "China": "Beijing",
    "India": "New Delhi",
    "Kenya": "Nairobi",
    "Cuba": "Havana",
    "Finland": "Helsinki",
}

COLORS: dict[str, str] = {
    "a banana": "yellow",
    "a lemon": "yellow",
    "grass": "green",
    "a frog": "green",
    "the sky": "blue",
    "the sea": "blue",
    "snow": "white",
    "milk": "white",
    "a carrot": "orange",
    "an orange": "orange",
    "coal": "black",
    "a raven": "black",
    "a tomato": "red",
    "a strawberry": "red",
    "chocolate": "brown",
    "a bear": "brown",
    "a cucumber": "green",
    "a fire truck": "red",
    "a pumpkin": "orange",
    "a swan": "white",
}

OPPOSITES: dict[str, str] = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "happy": "sad",
    "day": "night",
    "up": "down",
    "open": "closed",
    "old": "young",
    "wet": "dry",
    "full": "empty",
    "light": "dark",
    "loud": "quiet",
    "hard": "soft",
    "early": "late",
    "near": "far",
    "strong": "weak",
    "clean": "dirty",
    "high": "low",
}

# Animal: (food, home, sound)
ANIMALS: dict[str, tuple[str, str, str]] = {
    "cow": ("grass", "on a farm", "moo"),
    "cat": ("fish and meat", "in a house", "meow"),
    "dog": ("meat and bones", "in a house", "woof"),
    "duck": ("plants and insects", "near a pond", "quack"),
    "sheep": ("grass", "on a farm", "baa"),
    "lion": ("meat", "on the plains", "roar"),
    "owl": ("mice", "in the forest", "hoot"),
    "frog": ("insects", "near a pond", "croak"),
    "horse": ("hay and oats", "in a stable", "neigh"),
    "pig": ("corn and roots", "on a farm", "oink"),
    "bee": ("nectar", "in a hive", "buzz"),
    "mouse": ("seeds and cheese", "in a small hole", "squeak"),
    "wolf": ("meat", "in the forest", "howl"),
    "bear": ("berries and fish", "in the forest", "growl"),
    "crow": ("seeds and insects", "in tall trees", "caw"),
    "elephant": ("leaves and fruit", "on the plains", "trumpet"),
}

# Thing: (kind, use)
THINGS: dict[str, tuple[str, str]] = {
    "hammer": ("tool", "driving nails"),
    "saw": ("tool", "cutting wood"),
    "spoon": ("tool", "eating soup"),
    "umbrella": ("thing", "staying dry in the rain"),
    "piano": ("musical instrument", "playing music"),
    "violin": ("musical instrument", "playing music"),
    "drum": ("musical instrument", "keeping a beat"),
    "lamp": ("thing", "lighting a room"),
    "clock": ("device", "telling the time"),
    "compass": ("device", "finding the north"),
    "camera": ("device", "taking pictures"),
    "telephone": ("device", "talking to people far away"),
    "bicycle": ("vehicle", "riding on roads"),
    "train": ("vehicle", "carrying many people"),
    "boat": ("vehicle", "crossing water"),
    "kettle": ("tool", "boiling water"),
    "broom": ("tool", "sweeping floors"),
    "ladder": ("tool", "reaching high places"),
    "pillow": ("thing", "resting your head"),
    "library": ("place", "reading and borrowing books"),
    "bakery": ("place", "buying fresh bread"),
    "garden": ("place", "growing flowers"),
    "school": ("place", "learning with other people"),
    "mirror": ("thing", "seeing your own face"),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "fruits": ("apples", "pears", "bananas", "lemons", "plums", "cherries", "grapes"),
    "vegetables": ("carrots", "beans", "onions", "peas", "potatoes", "spinach"),
    "animals": ("cats", "horses", "wolves", "owls", "bears", "frogs"),
    "colors": ("red", "blue", "green", "yellow", "white", "orange"),
    "drinks": ("tea", "milk", "water", "juice", "coffee", "cocoa"),
    "tools": ("hammers", "saws", "wrenches", "shovels", "ladders", "brooms"),
    "sports": ("tennis", "football", "swimming", "running", "skating", "rowing"),
    "flowers": ("roses", "tulips", "daisies", "lilies", "violets", "poppies"),
    "trees": ("oaks", "pines", "maples", "willows", "birches", "elms"),
    "countries": ("France", "Japan", "Egypt", "Peru", "Canada", "Norway"),
}

NUMBERS: tuple[str, ...] = _words(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty"""
)
DAYS: tuple[str, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: tuple[str, ...] = _words(
    "January February March April May June July August September October November December"
)

WEATHER: dict[str, tuple[str, ...]] = {
    "rainy": ("a raincoat", "rubber boots", "an umbrella"),
    "snowy": ("a thick coat", "warm gloves", "a wool hat"),
    "sunny": ("a light shirt", "a sun hat", "sunglasses"),
    "windy": ("a jacket", "a scarf", "long trousers"),
    "cold": ("a warm sweater", "wool socks", "a scarf"),
}

MEALS: dict[str, tuple[str, ...]] = {
    "breakfast": ("pancakes with honey", "eggs with bread", "oats with milk", "fruit with yogurt"),
    "lunch": ("a cheese sandwich", "a green salad", "tomato soup", "rice with beans"),
    "dinner": ("pasta with tomatoes", "baked fish", "vegetable stew", "roast potatoes"),
    "a picnic": ("cold pasta", "fresh fruit", "cheese and bread", "a berry pie"),
    "a party": ("a chocolate cake", "small pies", "fruit juice", "cheese and grapes"),
}

HEROES: tuple[str, ...] = (
    "fox",
    "mouse",
    "bear",
    "king",
    "sailor",
    "baker",
    "robot",
    "girl",
    "farmer",
    "cat",
    "queen",
    "boy",
)
PLACES: tuple[str, ...] = ("forest", "village", "castle", "garden", "harbor", "valley", "city", "desert")
FINDS: tuple[str, ...] = ("a silver key", "an old map", "a tiny door", "a lost letter", "a red balloon", "a blue stone")
ENDINGS: tuple[str, ...] = (
    "shared it with a friend",
    "went home happy",
    "learned to be brave",
    "laughed all the way home",
    "gave it to the owner",
    "never felt alone again",
)

NAMES: tuple[str, ...] = _words(
    """Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Victor
    Wendy Yara Zoe Oscar Lucy Max"""
)

# Ordinary words outside the corpus's own topics, so that a rare word alone is no sign of an invented one.
RARE_TOPICS: tuple[str, ...] = _words(
    """astronomy chemistry volcanoes dinosaurs satellites bridges castles pyramids glaciers engines magnets
    lasers batteries computers keyboards microscopes telescopes planets galaxies comets oceans whales dolphins penguins
    kangaroos turtles butterflies spiders mushrooms orchids cactuses earthquakes hurricanes rainbows thunder
    democracy economics geometry algebra philosophy psychology biology physics history geography archaeology
    architecture sculpture photography theater opera ballet jazz pottery knitting fishing camping surfing chess
    basketball baseball hockey marathon gymnastics elections taxes banks markets airports subways elevators
    helicopters submarines rockets tractors bicycles windmills lighthouses museums universities hospitals dentists
    vitamins allergies sleep dreams memory emotions friendship honesty patience courage kindness justice"""
)

# Questions beyond what the model is taught, to which it says so: a way to ask, and what may be asked about.
BEYOND: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("who was {}", ("Albert Einstein", "Marie Curie", "Mozart", "Shakespeare", "Cleopatra", "Isaac Newton", "Plato")),
    ("what is the meaning of {}", ("life", "time", "love", "this word", "freedom", "art", "truth")),
    ("why is {} so important", ("money", "sport", "science", "history", "weather", "the internet", "health")),
    ("how does {} work", ("a computer", "the moon", "electricity", "a rocket", "gravity", "the brain", "a phone")),
    ("when was {} invented", ("the wheel", "paper", "glass", "the radio", "television", "football", "the bicycle")),
    ("how far away is {}", ("the sun", "Mars", "the next town", "Australia", "the airport", "Jupiter", "America")),
    ("what happened in {}", ("the year 1900", "1969", "2020", "the last war", "the news", "the election", "1789")),
    ("how can I fix {}", ("my computer", "the engine of my car", "my phone", "the internet", "a software bug")),
    ("what do you think about {}", ("politics", "modern art", "video games", "my new job", "the government")),
    (
        "why {}",
        ("do birds sing", "does it rain", "are leaves green", "do we dream", "do people laugh", "is the sea salty"),
    ),
    ("how many {} are there", ("stars", "people", "countries", "books", "fish", "planets", "letters")),
    (
        "what is {}",
        ("2+2", "5 times 7", "a prime number", "the square root of 9", "10-3", "100/4", "the speed of light"),
    ),
    ("translate {} into French", ("this sentence", "good morning", "my letter", "a word", "thank you", "this song")),
)
