"""Questions in the original's words and in other ones, and spoken words that suggest a label."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from demo.labels import LABELS

_LIST = ", ".join(LABELS)
_MER2023 = "happy, sad, neutral, angry, worried, surprise"  # the labels that the original scores

EMOTION_QUESTIONS = (
    "What is the emotion expressed in this video?",
    f"Please determine which emotion label in the video represents: {_LIST}.",
    f"Please determine which emotion label in the video represents: {_MER2023}.",
    "Which emotion does the person show?",
    "How does the person in the video feel?",
    "Name the emotion of the speaker in one word.",
    "这个视频表达了什么情绪？",
    "视频中的人物是什么情绪？",
    "请判断视频中人物的情感标签。",
)
REASON_QUESTIONS = (
    "What are the facial expressions and vocal tone used in the video? "
    "What is the intended meaning behind the words? Which emotion does this reflect?",
    "Please analyze all the clues in the video and reason out the emotional label of the person "
    "in the video.",
    "What is the emotional state of the person in the video? Please tell me the reason.",
    "Please integrate information from various modalities to infer the emotional category of the person "
    "in the video.",
    "Could you describe the emotion-related features of the individual in the video? "
    "What emotional category do they fall into?",
    "Why does the person feel this way?",
    "请分析视频中人物的表情和语气，并说明情绪。",
    "视频中的人物是什么情绪？请说明理由。",
)
# Never trained on: what the report asks to see whether the wording matters.
UNSEEN_EMOTION_QUESTIONS = (
    "Tell me the emotion of this person.",
    "What does the speaker in the video feel?",
    "视频里的人物表达了什么情感？",
)
UNSEEN_REASON_QUESTIONS = (
    "Describe the face and the voice of the person, and name the emotion.",
    "请说明视频中人物的情绪和理由。",
)

SAYS = (
    "The person in video says: {words} ",
    "The person in video says: {words}.  ",  # as the original's evaluation puts it
    "视频中的人说：{words} ",
)

# Two lists each: trained on, and kept for the report.
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "happy": (
        (
            "I am so happy today!",
            "That is wonderful news!",
            "We won, what a great day!",
            "I love it, thank you!",
            "This is the best day of my life.",
        ),
        ("What wonderful news, thank you!", "I love this great day."),
    ),
    "sad": (
        (
            "I miss her so much.",
            "He is gone and I feel alone.",
            "I lost everything.",
            "It hurts, I want to cry.",
            "We had to say goodbye.",
        ),
        ("I feel alone, I miss him.", "She is gone, it hurts so much."),
    ),
    "neutral": (
        (
            "The meeting starts at nine.",
            "The bus stops at the corner.",
            "Please put the box on the table.",
            "The report has ten pages.",
            "It is Tuesday.",
        ),
        ("The meeting is on Tuesday.", "Please put the report on the table."),
    ),
    "angry": (
        (
            "How dare you do this to me!",
            "Get out of my house!",
            "I am sick of your lies!",
            "Stop it, that is enough!",
            "You ruined it, I hate you!",
        ),
        ("That is enough, get out!", "How dare you, I hate your lies!"),
    ),
    "worried": (
        (
            "What if he does not come back?",
            "I hope nothing bad happened.",
            "She should have called by now.",
            "I cannot sleep, will it be all right?",
            "What if we are too late?",
        ),
        ("I hope he will be all right.", "What if nothing works and she has not called?"),
    ),
    "surprise": (
        (
            "Wow, I did not expect that!",
            "Oh my, is it really you?",
            "What, already? Unbelievable!",
            "No way, that is amazing!",
            "I had no idea!",
        ),
        ("Wow, is it really true? No way!", "Oh my, I did not expect you!"),
    ),
    "fear": (
        (
            "Please do not hurt me!",
            "Someone is behind the door, run!",
            "Help, it is coming!",
            "I am so scared of the dark.",
            "Hide, he has a knife!",
        ),
        ("Help, someone is behind me, hide!", "I am scared, please run!"),
    ),
    "contempt": (
        (
            "You are not worth my time.",
            "That is pathetic, even for you.",
            "People like you never learn.",
            "Do you call that work? Ridiculous.",
            "I expected nothing better from him.",
        ),
        ("Pathetic, people like him are not worth it.", "Ridiculous, you never learn."),
    ),
    "doubt": (
        (
            "Are you sure about that?",
            "I do not really believe it.",
            "Maybe, but it does not add up.",
            "Hmm, that sounds too good to be true.",
            "I wonder whether he told the truth.",
        ),
        ("Hmm, are you sure he told the truth?", "Maybe, but I do not believe that."),
    ),
}
