/* `shale fsck` and `shale extract`: flags, terminal, files, signals. The work: cli/offline.h. */
#pragma once

extern const char fsck_help[];
extern const char extract_help[];
/* Arguments behind the role; returns the exit status (enum offline_status). */
int fsck_main(int argc, char **argv);
int extract_main(int argc, char **argv);
