/* `shale meta recover`: the metadata of a host whose server does not start for want of voters. */
#pragma once

extern const char meta_help[];
/* Arguments behind the role; returns the exit status. */
int meta_main(int argc, char **argv);
