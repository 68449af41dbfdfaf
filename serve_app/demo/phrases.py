"""Questions in the original's wording and in others, and spoken words that suggest a label."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from serve_app.demo.labels import LABELS
from serve_app.emotions import REASON_QUESTIONS as ORIGINAL_REASON_QUESTIONS
from serve_app.emotions import emotion_question

EMOTION_TAG, REASON_TAG = "[emotion] ", "[reason] "

EMOTION_QUESTIONS = (
    "What is the emotion expressed in this video?",
    emotion_question(LABELS).removeprefix(EMOTION_TAG),
    emotion_question(LABELS[:6]).removeprefix(EMOTION_TAG),  # the six that the original scores
    "Which emotion does the person show?",
    "How does the person in the video feel?",
    "Name the emotion of the speaker in one word.",
    "这个视频表达了什么情绪？",
    "视频中的人物是什么情绪？",
    "请判断视频中人物的情感标签。",
)
REASON_QUESTIONS = (
    # The five of the original, as its API guide words them.
    "What are the facial expressions and vocal tone used in the video? "
    "What is the intended meaning behind the words? Which emotion does this reflect?",
    *ORIGINAL_REASON_QUESTIONS[:2],
    *ORIGINAL_REASON_QUESTIONS[3:],
    "Why does the person feel this way?",
    "请分析视频中人物的表情和语气，并说明情绪。",
    "视频中的人物是什么情绪？请说明理由。",
)
# Never trained on: the report uses these to see whether the wording matters.
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

# What somebody may say in a mood: sentences to train on, and others for the report that use the same words.
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "happy": (
        (
            "I am so happy today!",
            "That is wonderful news!",
            "We won, what a great day!",
            "I love it, thank you!",
            "This is the best day of my life.",
            "Great, we did it, I am so glad!",
            "I had a wonderful time with my friends.",
            "She said yes, I am the happiest man!",
            "Thank you, I love this present!",
            "What a beautiful day, let us celebrate!",
            "I am glad that we won.",
            "My friends and I had the best time.",
        ),
        (
            "What wonderful news, thank you!",
            "I love this great day.",
            "I am glad, this is the best present!",
            "We did it, let us celebrate with friends!",
        ),
    ),
    "sad": (
        (
            "I miss her so much.",
            "He is gone and I feel alone.",
            "I lost everything.",
            "It hurts, I want to cry.",
            "We had to say goodbye.",
            "My dog died yesterday.",
            "I am lonely without him.",
            "I cried all night.",
            "She left me and my heart is broken.",
            "Nothing will ever be the same since he died.",
            "I feel so empty and alone.",
            "I miss the home that we lost.",
        ),
        (
            "I feel alone, I miss him.",
            "She is gone, it hurts so much.",
            "He died, I cried and said goodbye.",
            "I am lonely, my heart is empty.",
        ),
    ),
    "neutral": (
        (
            "The meeting starts at nine.",
            "The bus stops at the corner.",
            "Please put the box on the table.",
            "The report has ten pages.",
            "It is Tuesday.",
            "The shop opens at ten.",
            "The train leaves from the second platform.",
            "I will send the report on Monday.",
            "The key is in the drawer.",
            "There are two chairs in the room.",
            "The meeting is in the second room.",
            "Please send the box to the shop.",
        ),
        (
            "The meeting is on Tuesday.",
            "Please put the report on the table.",
            "The bus leaves at ten.",
            "The box is in the drawer.",
        ),
    ),
    "angry": (
        (
            "How dare you do this to me!",
            "Get out of my house!",
            "I am sick of your lies!",
            "Stop it, that is enough!",
            "You ruined it, I hate you!",
            "Shut up and leave me alone!",
            "This makes me furious!",
            "You lied to me again!",
            "I have had enough of this nonsense!",
            "Do not shout at me, get out!",
            "I hate it, stop that now!",
            "How dare you shout at my family!",
        ),
        (
            "That is enough, get out!",
            "How dare you, I hate your lies!",
            "Shut up, I have had enough!",
            "I am furious, you ruined it!",
        ),
    ),
    "worried": (
        (
            "What if he does not come back?",
            "I hope nothing bad happened.",
            "She should have called by now.",
            "I cannot sleep, will it be all right?",
            "What if we are too late?",
            "I am worried about the exam.",
            "He has not called, I hope he is safe.",
            "What if the doctor finds something?",
            "I am nervous about tomorrow.",
            "Something could go wrong, I cannot stop thinking about it.",
            "I hope the doctor says that it is nothing bad.",
            "She is late, what if something happened?",
        ),
        (
            "I hope he will be all right.",
            "What if nothing works and she has not called?",
            "I am nervous, what if something happened?",
            "I am worried, she should be back by now.",
        ),
    ),
    "surprise": (
        (
            "Wow, I did not expect that!",
            "Oh my, is it really you?",
            "What, already? Unbelievable!",
            "No way, that is amazing!",
            "I had no idea!",
            "Wow, where did you come from?",
            "Oh, I did not know that you were here!",
            "Really? That is incredible!",
            "You did what? I had no idea!",
            "What a surprise, I cannot believe my eyes!",
            "Oh my, what a surprise to see you!",
            "Unbelievable, did you really do that?",
        ),
        (
            "Wow, is it really true? No way!",
            "Oh my, I did not expect you!",
            "Really? What a surprise, unbelievable!",
            "Oh, I had no idea, incredible!",
        ),
    ),
    "fear": (
        (
            "Please do not hurt me!",
            "Someone is behind the door, run!",
            "Help, it is coming!",
            "I am so scared of the dark.",
            "Hide, he has a knife!",
            "Run, they are coming to kill us!",
            "I am afraid, please do not leave me in the dark!",
            "Help me, he has a gun!",
            "There is a monster under the bed!",
            "I am terrified of that dog!",
            "Be quiet and hide, someone is coming!",
            "Do not go in there, I am afraid!",
        ),
        (
            "Help, someone is behind me, hide!",
            "I am scared, please run!",
            "He has a knife, please do not kill me!",
            "I am terrified of the dark, help!",
        ),
    ),
    "contempt": (
        (
            "You are not worth my time.",
            "That is pathetic, even for you.",
            "People like you never learn.",
            "Do you call that work? Ridiculous.",
            "I expected nothing better from him.",
            "What a loser, he will never be one of us.",
            "You are beneath me.",
            "How stupid can people like that be?",
            "Even a child could do better than you.",
            "A pathetic loser, not worth a word.",
            "You call yourself clever? Ridiculous.",
            "Such stupid work is beneath us.",
        ),
        (
            "Pathetic, people like him are not worth it.",
            "Ridiculous, you never learn.",
            "You are a stupid loser.",
            "That work is pathetic, a child could do better.",
        ),
    ),
    "doubt": (
        (
            "Are you sure about that?",
            "I do not really believe it.",
            "Maybe, but it does not add up.",
            "Hmm, that sounds too good to be true.",
            "I wonder whether he told the truth.",
            "I am not convinced.",
            "Hmm, I am not so sure about this story.",
            "Is that so? It seems unlikely.",
            "Perhaps, but where is the proof?",
            "I find that hard to believe.",
            "Are you certain? It sounds unlikely.",
            "Maybe, but I am not convinced by the proof.",
        ),
        (
            "Hmm, are you sure he told the truth?",
            "Maybe, but I do not believe that.",
            "That sounds unlikely, where is the proof?",
            "I am not sure, the story does not add up.",
        ),
    ),
}
