"""What is made of a run of pictures to be shown to others, beside its report: contact sheets and an atlas."""
