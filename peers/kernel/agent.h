/* What the files of the agent share: see agent.c. */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t u64;

#define WORDS_MAX 16

/* One command: its line, and its words as texts and as numbers. */
struct call {
	const char *line;
	unsigned words;
	const char *text[WORDS_MAX];
	u64 number[WORDS_MAX];
};

struct command {
	const char *name;
	/* Words that it needs behind its name, and those that it may have. */
	unsigned least, most;
	void (*run)(const struct call *);
	/* Whether the numbers given are ones that it has room for. */
	bool (*fits)(const struct call *);
};

/* Commands about KVM, and about vhost; the last one of each has no name. */
extern const struct command kvm_commands[], vhost_commands[];

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Begins an answer: the command, what a call returned, and the name of errno where that is negative. */
void answer(const struct call *c, long value);
void end_line(void);
/* An answer without fields. */
void plain(const struct call *c, long value);
/* 0 or -1, for calls whose number is of no interest. */
long done(int fd);
/* Runs the command that the words from one on say. */
void run_words(const struct call *c, unsigned from);
/* A word that may be left out. */
u64 word_or(const struct call *c, unsigned at, u64 otherwise);
/* The file of the container in use; -1 where it is not open. */
int container(void);
/* The file of an IOMMU group; -1 where it is not open. */
int group_file(const struct call *c);
bool has_group(const struct call *c);

#endif
